/* The same heads decoded many times, for others to time:
 *
 *     repeat MANIFEST FOLDER PHOTO_WIDTH PHOTO_HEIGHT TIMES
 *
 * The folder has the raw heads as semantic.bin, center.bin and offset.bin. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "panokit.h"

static char *read_file(const char *folder, const char *name, size_t *bytes) {
    char path[1024];
    FILE *file;
    char *data = malloc(16 << 20);
    snprintf(path, sizeof path, "%s%s", folder, name);
    file = fopen(path, "rb");
    if (!file || !data) exit(2);
    *bytes = fread(data, 1, 16 << 20, file);
    fclose(file);
    return data;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"/semantic.bin", "/center.bin", "/offset.bin"};
    panokit_model *model;
    panokit_session *session;
    panokit_tensor heads[3];
    panokit_error error;
    size_t bytes;
    char *manifest;
    int i;
    if (argc != 6) return 2;
    manifest = read_file(argv[1], "", &bytes);
    if (panokit_open(manifest, bytes, NULL, &model, &error) ||
        panokit_session_open(model, NULL, &session, &error) ||
        panokit_set_photo(session, atoi(argv[3]), atoi(argv[4]), &error))
        return 2;
    memset(heads, 0, sizeof heads);
    for (i = 0; i < 3; i++) {
        heads[i].data = read_file(argv[2], names[i], &heads[i].bytes);
        heads[i].dtype = panokit_model_info(model)->heads[i].dtype;
    }
    for (i = 0; i < atoi(argv[5]); i++)
        if (panokit_decode(session, heads, &error)) return 2;
    return 0;
}

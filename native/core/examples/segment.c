/* One photo from pixels to segments and a dump:
 *
 *     segment MANIFEST PHOTO.rgb WIDTH HEIGHT SEMANTIC CENTER OFFSET OUT.safetensors
 *
 * The network itself is the app's: `run_network` takes the input tensor and gives the raw heads.
 * Here it reads them from the three files, as a runtime left them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "panokit.h"

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    char *data = malloc(64 << 20);
    if (!file || !data) exit((fprintf(stderr, "%s cannot be read\n", path), 2));
    *bytes = fread(data, 1, 64 << 20, file);
    fclose(file);
    return data;
}

static void run_network(const void *input, char **files, const panokit_info *info, panokit_tensor heads[3]) {
    (void)input; /* LiteRT: TfLiteTensorCopyFromBuffer, TfLiteInterpreterInvoke, TfLiteTensorData */
    for (int i = 0; i < 3; i++) {
        memset(&heads[i], 0, sizeof heads[i]);
        heads[i].data = read_file(files[i], &heads[i].bytes);
        heads[i].dtype = info->heads[i].dtype;
    }
}

static int write_file(void *file, const void *bytes, size_t count) {
    return fwrite(bytes, 1, count, file) != count;
}

#define CHECK(call) if (call) exit((fprintf(stderr, "%s\n", error.message), 1))

int main(int argc, char **argv) {
    panokit_model *model;
    panokit_session *session;
    panokit_error error;
    panokit_tensor heads[3];
    panokit_dump dump;
    panokit_image photo = {0};
    size_t bytes;
    int32_t count;
    if (argc != 9) return 2;
    char *manifest = read_file(argv[1], &bytes);
    CHECK(panokit_open(manifest, bytes, NULL, &model, &error));
    CHECK(panokit_session_open(model, NULL, &session, &error));
    const panokit_info *info = panokit_model_info(model);

    photo.format = PANOKIT_RGB8;
    photo.width = atoi(argv[3]);
    photo.height = atoi(argv[4]);
    photo.row_stride = 3 * photo.width;
    photo.data = (const uint8_t *)read_file(argv[2], &bytes);
    CHECK(panokit_preprocess(session, &photo, &error));
    void *input = malloc(panokit_input_bytes(model));
    CHECK(panokit_input(session, input, panokit_input_bytes(model), &error));
    run_network(input, argv + 5, info, heads);
    CHECK(panokit_decode(session, heads, &error));

    const panokit_segment *s = panokit_segments(session, &count);
    for (int i = 0; i < count; i++, s++)
        printf("%d %s %.2f [%d %d %d %d]\n", s->id, info->categories[s->channel].name, s->score,
               s->box[0], s->box[1], s->box[2], s->box[3]);

    panokit_dump_init(&dump, session);
    CHECK(panokit_dump_text(&dump, "device", "my phone", &error));
    CHECK(panokit_dump_result(&dump, &error));
    for (int i = 0; i < 3; i++)
        CHECK(panokit_dump_head(&dump, (panokit_head)i, heads[i].dtype, heads[i].data, heads[i].bytes, &error));
    FILE *out = fopen(argv[8], "wb");
    if (!out) return 2;
    CHECK(panokit_dump_write(&dump, write_file, out, &error));
    return fclose(out) != 0;
}

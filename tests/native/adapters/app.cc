#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include "panokit.h"
#include "panokit_golden.h"

using panokit_golden::Bytes;
static std::string fault() { const char* f = std::getenv("FAULT"); return f ? f : ""; }
static Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

struct App : panokit_golden::Pipeline {
  panokit_model* model = nullptr;
  panokit_session* session = nullptr;
  App() {
    const Bytes text = read(MANIFEST);
    panokit_open(reinterpret_cast<const char*>(text.data()), text.size(), nullptr, &model, nullptr);
    panokit_session_open(model, nullptr, &session, nullptr);
  }
  Bytes input(const uint8_t* rgb, int width, int height) override {
    panokit_image image = {};
    image.width = width; image.height = height; image.data = rgb; image.row_stride = 3 * width;
    Bytes turned(rgb, rgb + 3 * width * height);
    if (fault() == "bgr") {
      for (size_t i = 0; i < turned.size(); i += 3) std::swap(turned[i], turned[i + 2]);
      image.data = turned.data();
    }
    panokit_preprocess(session, &image, nullptr);
    Bytes out(panokit_input_bytes(model));
    panokit_input(session, out.data(), out.size(), nullptr);
    return out;
  }
  panokit_golden::Heads run(const Bytes& input) override {
    for (const char* name : {"astronaut", "grace_hopper", "coffee"}) {
      const std::string folder = std::string(PANOKIT_GOLDEN_DIR) + "/" + name + "/";
      if (read(folder + "input.bin") != input) continue;
      panokit_golden::Heads heads = {read(folder + "semantic.bin"), read(folder + "center.bin"),
                                     read(folder + "offset.bin")};
      if (fault() == "offset") for (auto& v : heads.offset) v = uint8_t(-v);
      return heads;
    }
    return {};
  }
  std::vector<int32_t> map(const panokit_golden::Heads& heads, int width, int height) override {
    if (fault() == "letterbox") { width = 100; height = 40; }
    panokit_set_photo(session, width, height, nullptr);
    panokit_tensor tensors[3] = {};
    const Bytes* given[] = {&heads.semantic, &heads.center, &heads.offset};
    for (int i = 0; i < 3; i++) {
      tensors[i].data = given[i]->data();
      tensors[i].bytes = given[i]->size();
      tensors[i].dtype = PANOKIT_I8;
    }
    panokit_decode(session, tensors, nullptr);
    const panokit_info* info = panokit_model_info(model);
    const int32_t* ids = panokit_ids(session);
    return std::vector<int32_t>(ids, ids + info->grid_width * info->grid_height);
  }
};
panokit_golden::Pipeline& panokit_golden::pipeline() { static App app; return app; }

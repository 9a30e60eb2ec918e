#include "runtime/ops/read_all.h"

#include <cstring>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

TEST(ReadAll, SeesEveryWordOnce) {
    for (int64_t vectors : {1, 3, 256, 2047, 2049, 70001}) {
        Graph g(test::device());
        test::Tensors data(g);
        std::vector<int32_t> words(size_t(vectors) * 4);
        uint32_t state = 1, expected = 0;
        for (int32_t& w : words) {
            state = state * 1664525u + 1013904223u;
            w = int32_t(state);
            expected ^= state;
        }
        Tensor seen = read_all(g, data.ints({vectors * 4}, words, "t"));
        g.keep(seen);
        Executable executable(g, "read_all");
        executable.run();
        const std::vector<std::byte> bytes = executable.read(seen);
        uint32_t all = 0;
        for (size_t i = 0; i < bytes.size(); i += 4) {
            uint32_t word;
            std::memcpy(&word, &bytes[i], 4);
            all ^= word;
        }
        EXPECT_EQ(all, expected) << vectors;
    }
}

TEST(ReadAll, RefusesWhatIsNoWholeVector) {
    Graph g(test::device());
    test::Tensors data(g);
    EXPECT_THROW(read_all(g, data.poisoned({5}, "t", DType::u32)), Error);
}

}  // namespace
}  // namespace vkqat

#include "runtime/ops/token_scores.h"

#include <cmath>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

TEST(TokenScores, AgreeWithTheDefinition) {
    for (int64_t vocab : {1, 3, 31, 512, 1031}) {
        SCOPED_TRACE(vocab);
        const int64_t rows = 9;
        Graph g(test::device());
        test::Tensors data(g);
        auto logits = test::normal(size_t(rows * vocab), 1, 5);
        for (int64_t i = 0; i < vocab; i++) logits[size_t(vocab + i)] = 2;  // row 1: all equal, the first counts
        logits[size_t(3 * vocab - 1)] = 1e4f;                               // row 2: no overflow
        std::vector<int32_t> labels;
        for (int64_t r = 0; r < rows; r++) labels.push_back(r == 4 ? -1 : r == 5 ? int32_t(vocab) : int32_t((r * 37) % vocab));
        Tensor nll = data.poisoned({rows}, "nll"), best = data.poisoned({rows}, "best", DType::i32);
        token_scores(g, data.floats({rows, vocab}, logits, "logits"), data.ints({rows}, labels, "labels"), nll, best);
        Executable(g, "scores").run();
        auto found = data.read(nll);
        auto first = data.read_ints(best);
        for (size_t r = 0; r < size_t(rows); r++) {
            auto row = logits.begin() + ptrdiff_t(r) * vocab;
            auto top = std::max_element(row, row + vocab);
            double sum = 0;
            for (auto x = row; x != row + vocab; ++x) sum += std::exp(double(*x) - *top);
            const int32_t label = labels[r];
            const bool counts = label >= 0 && label < vocab;
            EXPECT_EQ(first[r], counts ? int32_t(top - row) : -1) << r;
            // fp32: logits of up to 1e4, and the sum's error
            EXPECT_NEAR(found[r], counts ? std::log(sum) + *top - row[label] : 0, 2e-6 * (1 + std::abs(*top))) << r;
        }
    }
}

}  // namespace
}  // namespace vkqat

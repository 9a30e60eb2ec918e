#include "trainer/optimizer.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

struct Result {
    std::vector<float> w, m, v;
    AdamwState state;
};

// Three updates with the gradients given for each; two blocks of odd sizes.
Result run(const std::vector<std::vector<float>>& gradients, float loss, float max_norm, float loss_scale = 0,
           DType moments = DType::f32) {
    Graph g(test::device());
    test::Tensors data(g);
    const int64_t first = 8200, second = 37;
    auto part = [&](const std::vector<float>& all, bool head) {
        return head ? std::vector<float>(all.begin(), all.begin() + first) : std::vector<float>(all.begin() + first, all.end());
    };
    auto weights = test::normal(first + second, 3);
    std::vector<OptimizerBlock> blocks;
    for (bool head : {true, false}) {
        int64_t n = head ? first : second;
        std::vector<float> zero(size_t(n), 0);
        blocks.push_back({data.floats({n}, part(weights, head), "w"), data.floats({n}, zero, "g"),
                          data.floats({n}, zero, "m", moments), data.floats({n}, zero, "v", moments)});
    }
    Buffer settings_buffer = g.device().allocate_host(sizeof(AdamwSettings), "settings");
    Buffer state_buffer = g.device().allocate_host(sizeof(AdamwState), "state");
    *static_cast<AdamwSettings*>(settings_buffer.mapped()) = {0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, max_norm};
    AdamwState start{};
    start.beta1_power = start.beta2_power = 1;
    start.loss_scale = loss_scale;
    std::memcpy(state_buffer.mapped(), &start, sizeof start);
    Tensor settings = g.external(settings_buffer, 0, {sizeof(AdamwSettings) / 4}, DType::u32, "settings");
    Tensor state = g.external(state_buffer, 0, {sizeof(AdamwState) / 4}, DType::u32, "state");
    adamw(g, blocks, data.floats({1}, {loss}, "loss"), settings, state);
    Executable executable(g, "update");
    for (auto& gradient : gradients) {
        data.write(blocks[0].gradient, part(gradient, true));
        data.write(blocks[1].gradient, part(gradient, false));
        executable.run();
    }
    Result r;
    for (auto& b : blocks) {
        auto append = [&](std::vector<float>& to, Tensor t) {
            auto values = data.read(t);
            to.insert(to.end(), values.begin(), values.end());
        };
        append(r.w, b.weight);
        append(r.m, b.m);
        append(r.v, b.v);
    }
    std::memcpy(&r.state, state_buffer.mapped(), sizeof r.state);
    return r;
}

TEST(Adamw, MatchesTheDefinitionInDouble) {
    std::vector<std::vector<float>> gradients;
    for (uint32_t i = 0; i < 3; i++) gradients.push_back(test::normal(8237, 10 + i, 0.1f));
    Result r = run(gradients, 2.5f, 1.0f);
    auto start = test::normal(8237, 3);
    std::vector<double> w(start.begin(), start.end()), m(w.size(), 0), v(w.size(), 0);
    double norm = 0;
    for (int t = 1; t <= 3; t++) {
        norm = 0;
        for (float x : gradients[size_t(t - 1)]) norm += double(x) * x;
        norm = std::sqrt(norm);
        double clip = std::min(1.0, 1.0 / (norm + 1e-6));
        for (size_t i = 0; i < w.size(); i++) {
            double gradient = gradients[size_t(t - 1)][i] * clip;
            m[i] = 0.9 * m[i] + 0.1 * gradient;
            v[i] = 0.95 * v[i] + 0.05 * gradient * gradient;
            w[i] -= 0.01 * 0.1 * w[i];
            w[i] -= 0.01 / (1 - std::pow(0.9, t)) * m[i] / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 1e-8);
        }
    }
    EXPECT_LT(test::relative_error(r.w, w), 1e-6);
    EXPECT_LT(test::relative_error(r.m, m), 1e-6);
    EXPECT_LT(test::relative_error(r.v, v), 2e-6);
    EXPECT_NEAR(r.state.gradient_norm, norm, 1e-5 * norm);
    EXPECT_EQ(r.state.step, 3u);
    EXPECT_EQ(r.state.skipped, 0u);
    EXPECT_EQ(r.state.loss, 2.5f);
}

// One of the two neighbours in bf16, in the mean the value itself; the weights of the first step do not depend on it.
TEST(Adamw, MomentsInBf16AreRoundedByChance) {
    const size_t count = 8237;
    const std::vector<std::vector<float>> gradients{std::vector<float>(count, 0.003f)};
    const Result exact = run(gradients, 1, 0), rounded = run(gradients, 1, 0, 0, DType::bf16);
    EXPECT_EQ(rounded.w, exact.w);
    for (auto [x, found] : {std::pair{exact.m[0], &rounded.m}, {exact.v[0], &rounded.v}}) {
        const float below = std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xffff0000u);
        const float above = std::bit_cast<float>((std::bit_cast<uint32_t>(x) & 0xffff0000u) + 0x10000u);
        ASSERT_LT(below, x);
        size_t ups = 0;
        for (float y : *found) {
            ASSERT_TRUE(y == below || y == above) << y;
            ups += y == above;
        }
        const double share = (double(x) - below) / (double(above) - below);
        EXPECT_NEAR(double(ups) / count, share, 4 * std::sqrt(share * (1 - share) / count));
    }
    EXPECT_NE(rounded.m, rounded.v);
    const Result again = run(gradients, 1, 0, 0, DType::bf16);
    EXPECT_EQ(again.m, rounded.m) << "chance is the same for the same element and step";
}

TEST(Adamw, AStepThatIsNotFiniteChangesNothingAndIsCounted) {
    auto good = test::normal(8237, 10);
    auto bad = good;
    bad[8230] = std::numeric_limits<float>::quiet_NaN();
    auto infinite = good;
    infinite[0] = std::numeric_limits<float>::infinity();
    Result expected = run({good}, 1, 1), r = run({good, bad, infinite}, 1, 1);
    EXPECT_EQ(r.w, expected.w);
    EXPECT_EQ(r.m, expected.m);
    EXPECT_EQ(r.v, expected.v);
    EXPECT_EQ(r.state.step, 1u);
    EXPECT_EQ(r.state.skipped, 2u);
    EXPECT_EQ(r.state.consecutive_skipped, 2u);
    Result loss = run({good}, std::numeric_limits<float>::quiet_NaN(), 1);
    EXPECT_EQ(loss.w, test::normal(8237, 3));
    EXPECT_EQ(loss.state.skipped, 1u);
}

TEST(Adamw, TheScaleOfTheLossIsTakenOutAgainAndHalvedByAnOverflow) {
    auto gradient = test::normal(8237, 10), scaled = gradient, infinite = gradient;
    for (float& x : scaled) x *= 1024;
    infinite[5] = std::numeric_limits<float>::infinity();
    Result expected = run({gradient}, 1, 1), r = run({scaled}, 1, 1, 1024);
    EXPECT_LT(test::relative_error(r.w, expected.w), 1e-6);
    EXPECT_NEAR(r.state.gradient_norm, expected.state.gradient_norm, 1e-6 * expected.state.gradient_norm);
    EXPECT_EQ(r.state.loss_scale, 1024);
    EXPECT_EQ(r.state.steps_at_scale, 1u);
    Result overflow = run({scaled, infinite}, 1, 1, 1024);
    EXPECT_EQ(overflow.w, r.w);
    EXPECT_EQ(overflow.state.loss_scale, 512);
    EXPECT_EQ(overflow.state.steps_at_scale, 0u);
    EXPECT_EQ(expected.state.loss_scale, 0);  // none
}

TEST(LearningRate, WarmsUpStaysAndDecays) {
    LearningRateSchedule s{
        .peak = 1, .steps = 100, .warmup_steps = 10, .decay_ratio = 0.2, .decay_type = "linear", .min_lr_factor = 0.1};
    EXPECT_DOUBLE_EQ(s.at(1), 0.1);
    EXPECT_DOUBLE_EQ(s.at(10), 1);
    EXPECT_DOUBLE_EQ(s.at(80), 1);
    EXPECT_DOUBLE_EQ(s.at(90), 0.55);
    EXPECT_DOUBLE_EQ(s.at(100), 0.1);
    s.decay_type = "cosine";
    EXPECT_NEAR(s.at(90), 0.55, 1e-12);
    EXPECT_NEAR(s.at(85), 0.1 + 0.9 * 0.5 * (1 + std::cos(M_PI / 4)), 1e-12);
    s.decay_type = "sqrt";
    EXPECT_NEAR(s.at(85), 0.1 + 0.9 * 0.5, 1e-12);
}

}  // namespace
}  // namespace vkqat

#include "runtime/ops/sample.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace vkqat {

SamplerParameters greedy_parameters() {
    return {.temperature = 0,
            .top_p = 1,
            .min_p = 0,
            .repetition_penalty = 1,
            .top_k = 0,
            .greedy = 1,
            .seed_low = 0,
            .seed_high = 0};
}

void check_sampler(const SamplerParameters& p) {
    auto range = [](const char* name, float x, bool good, const char* expected) {
        if (!good || !std::isfinite(x)) fail("{} is {}, expected {}", name, x, expected);
    };
    range("temperature", p.temperature, p.temperature >= 0, "0 (greedy) or more");
    range("top_p", p.top_p, p.top_p >= 0 && p.top_p <= 1, "0 .. 1 (1: off)");
    range("min_p", p.min_p, p.min_p >= 0 && p.min_p <= 1, "0 .. 1 (0: off)");
    range("repetition_penalty", p.repetition_penalty, p.repetition_penalty > 0, "more than 0 (1: off)");
}

void sample(Graph& g, Tensor logits, const SamplerTensors& t, uint32_t subgroups) {
    if (!logits) fail("sample: logits are absent");
    const int64_t vocab = logits.cols();
    const int64_t rows = logits.rows();
    expect(logits, {rows, vocab}, DType::f32, "sample: logits");
    if (rows < 1 || rows > 65535) fail("sample: {} sequences, expected 1 .. 65535", rows);
    if (vocab < 1 || vocab > INT32_MAX) fail("sample: a vocabulary of {} cannot be sampled", vocab);
    expect(t.parameters, {rows * int64_t(sizeof(SamplerParameters) / 4)}, DType::u32, "sample: parameters");
    expect(t.token, {rows}, DType::i32, "sample: token");
    expect(t.position, {rows}, DType::u32, "sample: position");
    if (t.seen) expect(t.seen, {rows * vocab}, DType::u32, "sample: seen");
    if (t.count) expect(t.count, {1}, DType::u32, "sample: count");
    if (t.count && rows > 1) fail("sample: a count of valid rows is for one sequence, found {}", rows);
    if (t.limits) expect(t.limits, {rows}, DType::u32, "sample: limits");
    const int64_t capacity = t.generated ? t.generated.elements() / rows : 0;
    if (t.generated) {
        if (capacity < 1 || capacity > INT32_MAX) fail("sample: generated holds {} tokens for a sequence", capacity);
        expect(t.generated, {rows * capacity}, DType::i32, "sample: generated");
    }

    const Capabilities& device = g.capabilities();
    constexpr uint32_t per_lane = 8;
    const uint32_t width = device.subgroup_size, groups = uint32_t((vocab + width * per_lane - 1) / (width * per_lane));
    Tensor scores = g.tensor({rows, vocab}, DType::f32, "sample.scores"),
           best = g.tensor({rows, groups, 2}, DType::u32, "sample.best");
    g.dispatch(Kernel{"sample_scores", {width, bool(t.seen), per_lane}},
               {in(logits), in(t.parameters), in(t.seen), out(scores), out(best)}, SampleScoresArgs{.vocab = uint32_t(vocab)},
               Grid{groups, uint32_t(rows), 1}, "sample.scores");
    // A workgroup for each sequence, as wide as there is work for; a single subgroup where barriers are slow. A power of two of
    // subgroups.
    const uint32_t ahead = device.kind == DeviceKind::cpu ? 2 : 8;
    const uint32_t widest = std::min({device.max_workgroup_invocations / width, 1024 / width, 256u});
    if (subgroups == 0 && device.quirks.barriers_are_slow) subgroups = 1;
    if (subgroups == 0) subgroups = std::bit_floor(std::clamp(uint32_t(vocab) / width, 1u, widest));
    if (!std::has_single_bit(subgroups) || subgroups > widest)
        fail("sample: {} subgroups, expected a power of two up to {}", subgroups, widest);
    g.dispatch(Kernel{"sample_token",
                      {width * subgroups, subgroups, bool(t.seen), bool(t.generated), bool(t.count), ahead, bool(t.limits)}},
               {in(scores), in(best), in(t.parameters), inout(t.seen), out(t.token), out(t.generated), in(t.count), in(t.limits),
                inout(t.position)},
               SampleTokenArgs{.vocab = uint32_t(vocab), .groups = groups, .capacity = uint32_t(capacity)},
               Grid{uint32_t(rows), 1, 1}, "sample.token", {.bytes = 8.0 * double(scores.bytes())});
}

void mark_seen(Graph& g, Tensor tokens, Tensor seen, Tensor count) {
    if (!tokens || !seen) fail("mark_seen: tokens or seen is absent");
    expect(tokens, {tokens.elements()}, DType::i32, "mark_seen: tokens");
    expect(seen, {seen.elements()}, DType::u32, "mark_seen: seen");
    if (count) expect(count, {1}, DType::u32, "mark_seen: count");
    if (tokens.elements() == 0 || tokens.elements() > INT32_MAX) fail("mark_seen: {} tokens", tokens.elements());
    g.dispatch(Kernel{"mark_seen", {64, bool(count)}}, {in(tokens), in(count), inout(seen)},
               MarkSeenArgs{.tokens_count = uint32_t(tokens.elements()), .vocab = uint32_t(seen.elements())},
               Grid{uint32_t((tokens.elements() + 63) / 64), 1, 1}, "mark_seen", {.bytes = 8.0 * double(tokens.elements())});
}

}  // namespace vkqat

#include "runtime/ops/sample.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/support/gpu.h"

namespace vkqat {
namespace {

// Philox4x32-10, word 0, from the paper's description.
uint32_t philox(uint64_t seed, uint32_t counter) {
    uint32_t x[4] = {counter, 0, 0, 0}, k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const uint64_t a = uint64_t(0xD2511F53u) * x[0], b = uint64_t(0xCD9E8D57u) * x[2];
        const uint32_t next[4] = {uint32_t(b >> 32) ^ x[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ x[3] ^ k1, uint32_t(a)};
        std::copy(next, next + 4, x);
    }
    return x[0];
}

TEST(Sample, TheReferenceRandomNumberIsPhilox) {
    EXPECT_EQ(philox(0, 0), 0x6627e8d5u);  // known answer of the authors' library
}

SamplerParameters parameters(float temperature = 1, uint32_t top_k = 0, float top_p = 1, float min_p = 0, float penalty = 1,
                             uint64_t seed = 1234567890123ull) {
    return {temperature, top_p, min_p, penalty, top_k, 0, uint32_t(seed), uint32_t(seed >> 32)};
}

struct Sampler {
    Graph g{test::device()};
    test::Tensors data{g};
    Buffer memory = test::device().allocate_host(sizeof(SamplerParameters), "parameters");
    Buffer counter = test::device().allocate_host(4, "position");
    Tensor logits, token, position, generated, seen;
    std::unique_ptr<Executable> executable;

    Sampler(const std::vector<float>& values, bool with_seen = false, uint32_t subgroups = 0, int64_t capacity = 4096) {
        const int64_t vocab = int64_t(values.size());
        logits = data.floats({1, vocab}, values, "logits");
        token = data.ints({1}, {-1}, "token");
        at() = 0;
        position = g.external(counter, 0, {1}, DType::u32, "position");
        generated = data.ints({capacity}, std::vector<int32_t>(size_t(capacity), -1), "generated");
        if (with_seen) seen = data.ints({vocab}, std::vector<int32_t>(values.size(), 0), "seen", DType::u32);
        Tensor p = g.external(memory, 0, {8}, DType::u32, "parameters");
        sample(g, logits, {.parameters = p, .token = token, .position = position, .generated = generated, .seen = seen},
               subgroups);
        executable = std::make_unique<Executable>(g, "sample");
    }
    uint32_t& at() { return counter.mapped_as<uint32_t>()[0]; }
    void set(const SamplerParameters& p) { memory.mapped_as<SamplerParameters>()[0] = p; }
    int32_t next() {
        executable->run();
        return data.read_ints(token)[0];
    }
    std::vector<int32_t> many(int count) {
        for (int i = 0; i < count; i++) executable->replay();
        test::device().wait_idle();
        return data.read_ints(generated);
    }
};

// Kept ids and their probabilities (summing to 1) in double; scores as the shader makes them, in float.
std::vector<double> distribution(const std::vector<float>& logits, const std::vector<int32_t>& seen, const SamplerParameters& p) {
    std::vector<float> x = logits;
    for (size_t i = 0; i < x.size(); i++) {
        if (!seen.empty() && seen[i]) x[i] = x[i] < 0 ? x[i] * p.repetition_penalty : x[i] / p.repetition_penalty;
        x[i] /= p.temperature;
    }
    std::vector<size_t> order(x.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
    if (p.top_k > 0 && p.top_k < order.size()) order.resize(p.top_k);
    const double top = x[order[0]];
    double sum = 0, share = 0;
    for (size_t i : order) sum += std::exp(x[i] - top);
    size_t keep = 0;
    while (keep < order.size() && (keep == 0 || share < double(p.top_p) * sum)) share += std::exp(x[order[keep++]] - top);
    order.resize(p.top_p < 1 ? keep : order.size());
    std::vector<double> result(x.size(), 0);
    sum = 0;
    for (size_t i : order)
        if (std::exp(x[i] - top) >= double(p.min_p)) sum += result[i] = std::exp(x[i] - top);
    for (double& r : result) r /= sum;
    return result;
}

// Whether `token` is the one that the random number of `position` draws, within rounding of probabilities and of the set's edge.
void expect_draw(int32_t token, const std::vector<float>& logits, const std::vector<int32_t>& seen, SamplerParameters p,
                 uint32_t position) {
    ASSERT_GE(token, 0);
    ASSERT_LT(size_t(token), logits.size());
    const double u = philox(uint64_t(p.seed_high) << 32 | p.seed_low, position) * 0x1p-32;
    bool good = false;
    std::string found;
    for (double slack : {0.0, -2e-6, 2e-6}) {
        SamplerParameters q = p;
        if (p.top_p < 1) q.top_p += float(slack);
        if (p.min_p > 0) q.min_p *= float(1 + slack);
        const auto d = distribution(logits, seen, q);
        const double low = std::accumulate(d.begin(), d.begin() + token, 0.0), high = low + d[size_t(token)];
        good |= d[size_t(token)] > 0 && u > low - 3e-5 && u < high + 3e-5;
        found += fmt::format(" [{}, {}]", low, high);
    }
    EXPECT_TRUE(good) << "token " << token << " for " << u << ", its range:" << found;
}

TEST(Sample, GreedyTakesTheLargestAndTheLowestOfEquals) {
    for (size_t vocab : {3u, 512u, 32003u, 128256u}) {
        auto logits = test::normal(vocab, 3);
        logits[vocab / 2] = logits[vocab - 1] = 9;
        Sampler s(logits);
        s.set(greedy_parameters());
        EXPECT_EQ(s.next(), int32_t(vocab / 2));
        s.set(parameters(0));
        EXPECT_EQ(s.next(), int32_t(vocab / 2));
        EXPECT_EQ(s.at(), 2u);
        logits[vocab - 1] = 10;
        s.data.write(s.logits, logits);
        EXPECT_EQ(s.next(), int32_t(vocab - 1));
    }
}

TEST(Sample, AgreesWithTheReference) {
    for (size_t vocab : {3u, 512u, 32003u, 128256u}) {
        const auto logits = test::normal(vocab, 4, 3);
        std::vector<int32_t> seen(vocab, 0);
        for (size_t i = 0; i < vocab; i += 3) seen[i] = 1;
        Sampler plain(logits), penalised(logits, true);
        int case_number = 0;
        for (SamplerParameters p :
             {parameters(), parameters(0.7f, 40), parameters(1, 0, 0.9f), parameters(1.3f, 100, 0.8f), parameters(1, 0, 1, 0.05f),
              parameters(2, 5000, 0.95f, 1e-3f), parameters(5, 0, 0.99f), parameters(0.01f), parameters(30, 0, 0.5f)}) {
            SCOPED_TRACE(fmt::format("vocab {} case {}", vocab, case_number++));
            plain.set(p);
            for (int i = 0; i < 3; i++) {
                const auto position = plain.at();
                expect_draw(plain.next(), logits, {}, p, position);
            }
            p.repetition_penalty = 1.7f;
            penalised.set(p);
            const auto position = penalised.at();
            const auto before = penalised.data.read_ints(penalised.seen);
            const int32_t token = penalised.next();
            expect_draw(token, logits, before, p, position);
            EXPECT_EQ(penalised.data.read_ints(penalised.seen)[size_t(token)], 1);
        }
    }
}

TEST(Sample, PenaltyGoesWithAnyNumberOfSubgroups) {
    const Capabilities& device = test::device().capabilities();
    const uint32_t widest = std::min(device.max_workgroup_invocations, 512u) / device.subgroup_size;
    const auto logits = test::normal(512, 4, 3);
    for (uint32_t subgroups = 1; subgroups <= widest; subgroups *= 2) {
        SCOPED_TRACE(fmt::format("{} subgroups", subgroups));
        Sampler s(logits, true, subgroups);
        SamplerParameters p = parameters();
        p.repetition_penalty = 1.7f;
        s.set(p);
        for (int i = 0; i < 4; i++) {
            const auto position = s.at();
            const auto before = s.data.read_ints(s.seen);
            const int32_t token = s.next();
            expect_draw(token, logits, before, p, position);
        }
    }
}

TEST(Sample, AnyNumberOfSubgroupsDrawsTheSame) {
    const auto logits = test::normal(5003, 9, 2);
    std::vector<int32_t> first;
    const uint32_t widest =
        std::min(test::device().capabilities().max_workgroup_invocations, 256u) / test::device().capabilities().subgroup_size;
    for (uint32_t subgroups = 1; subgroups <= widest; subgroups *= 4) {
        Sampler s(logits, false, subgroups);
        std::vector<int32_t> tokens;
        for (SamplerParameters p : {parameters(1, 50), parameters(1, 0, 0.9f), parameters(2, 1000, 0.5f, 0.01f), parameters(0)}) {
            s.set(p);
            for (int i = 0; i < 5; i++) tokens.push_back(s.next());
        }
        if (first.empty()) first = tokens;
        EXPECT_EQ(tokens, first) << subgroups;
    }
}

TEST(Sample, TopKKeepsExactlyTheKLargest) {
    auto logits = test::uniform(1000, 5, 0, 0.1f);
    logits[900] = logits[901] = logits[10] = logits[950] = 0.2f;
    Sampler s(logits);
    s.set(parameters(1, 1));
    for (int i = 0; i < 5; i++) EXPECT_EQ(s.next(), 10);
    s.set(parameters(1, 3));  // the fourth of the equals has the highest id
    std::set<int32_t> drawn;
    for (int i = 0; i < 60; i++) drawn.insert(s.next());
    EXPECT_EQ(drawn, (std::set<int32_t>{10, 900, 901}));
}

TEST(Sample, EqualLogitsAreDrawnExactly) {
    // 4096 equal probabilities of 2^19 units: the token is the random number's upper 12 bits.
    Sampler s(std::vector<float>(4096, -1.5f));
    s.set(parameters());
    const auto tokens = s.many(50);
    for (uint32_t i = 0; i < 50; i++) EXPECT_EQ(uint32_t(tokens[i]), philox(1234567890123ull, i) >> 20);
    s.set(parameters(1, 0, 0.25f));  // the 1024 lowest ids
    const auto more = s.many(100);
    for (uint32_t i = 50; i < 150; i++) EXPECT_EQ(uint32_t(more[i]), philox(1234567890123ull, i) >> 22);
    s.set(parameters(1, 256, 0.5f));  // half of the 256 lowest ids
    const auto rest = s.many(100);
    for (uint32_t i = 150; i < 250; i++) EXPECT_EQ(uint32_t(rest[i]), philox(1234567890123ull, i) >> 25);
}

TEST(Sample, TinyTopPAndFullMinPAreGreedy) {
    const auto logits = test::normal(32003, 6);
    const auto best = int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    Sampler s(logits);
    for (SamplerParameters p : {parameters(1, 0, 1e-6f), parameters(1, 0, 0), parameters(1, 0, 1, 1)}) {
        s.set(p);
        for (int i = 0; i < 5; i++) EXPECT_EQ(s.next(), best);
    }
}

TEST(Sample, FrequenciesFollowTheProbabilities) {
    const auto logits = test::normal(20, 7);
    Sampler s(logits);
    for (SamplerParameters p : {parameters(), parameters(1.5f, 12), parameters(1, 0, 0.8f)}) {
        s.at() = 0;
        s.set(p);
        const int draws = 2000;
        const auto tokens = s.many(draws);
        std::vector<int> counts(20, 0);
        for (int i = 0; i < draws; i++) counts[size_t(tokens[size_t(i)])]++;
        const auto d = distribution(logits, {}, p);
        double chi = 0;
        for (size_t i = 0; i < 20; i++) {
            if (d[i] == 0)
                EXPECT_EQ(counts[i], 0);
            else
                chi += (counts[i] - draws * d[i]) * (counts[i] - draws * d[i]) / (draws * d[i]);
        }
        EXPECT_LT(chi, 50.8);  // 19 degrees of freedom at most: exceeded once in 10,000
    }
}

TEST(Sample, RepetitionPenaltyPushesSeenTokensDown) {
    Sampler s({1.0f, 2.0f, 1.9f, -0.5f}, true);
    SamplerParameters p = greedy_parameters();
    p.repetition_penalty = 1.2f;
    s.set(p);
    EXPECT_EQ(s.next(), 1);
    EXPECT_EQ(s.next(), 2);  // 2 / 1.2 = 1.67
    EXPECT_EQ(s.next(), 1);  // 1.9 / 1.2 = 1.58
    EXPECT_EQ(s.data.read_ints(s.seen), (std::vector<int32_t>{0, 1, 1, 0}));
}

TEST(Sample, LogitsThatAreNotFiniteDoNoHarm) {
    const float nan = std::nanf(""), inf = INFINITY;
    Sampler s({nan, 1, -inf, 2, nan}, false);
    for (SamplerParameters p : {greedy_parameters(), parameters(0.1f), parameters(1, 1), parameters(1e-30f)}) {
        s.set(p);
        EXPECT_EQ(s.next(), 3);
    }
    s.data.write(s.logits, {0, inf, 3, nan, 1});
    s.set(parameters());
    EXPECT_EQ(s.next(), 1);
    s.data.write(s.logits, {nan, nan, nan, nan, nan});
    EXPECT_LT(uint32_t(s.next()), 5u);
}

// Sequences side by side: each has its own parameters, position, context and limit, and gets what it would get alone.
TEST(Sample, SequencesAreSampledEachOnItsOwn) {
    const int64_t vocab = 3001, capacity = 64;
    const std::vector<SamplerParameters> samplers{parameters(1, 40, 1, 0, 1, 5), greedy_parameters(),
                                                  parameters(0.8f, 0, 0.9f, 0, 1.3f, 6), parameters(2, 0, 1, 0.01f, 1, 7)};
    const std::vector<uint32_t> starts{3, 0, 17, 40}, limits{64, 64, 19, 40};
    const auto n = int64_t(samplers.size());
    auto logits = test::normal(size_t(n * vocab), 8, 2);
    auto row = [&](int64_t r) { return std::vector<float>(logits.begin() + r * vocab, logits.begin() + (r + 1) * vocab); };
    Graph g(test::device());
    test::Tensors data(g);
    Buffer memory = test::device().allocate_host(uint64_t(n) * sizeof(SamplerParameters), "parameters");
    std::copy(samplers.begin(), samplers.end(), memory.mapped_as<SamplerParameters>().begin());
    Tensor position = data.ints({n}, std::vector<int32_t>(starts.begin(), starts.end()), "position", DType::u32);
    Tensor token = data.ints({n}, std::vector<int32_t>(size_t(n), -1), "token");
    Tensor generated = data.ints({n * capacity}, std::vector<int32_t>(size_t(n * capacity), -1), "generated");
    Tensor seen = data.ints({n * vocab}, std::vector<int32_t>(size_t(n * vocab), 0), "seen", DType::u32);
    Tensor limit = data.ints({n}, std::vector<int32_t>(limits.begin(), limits.end()), "limits", DType::u32);
    sample(g, data.floats({n, vocab}, logits, "logits"),
           {.parameters = g.external(memory, 0, {n * 8}, DType::u32, "p"),
            .token = token,
            .position = position,
            .generated = generated,
            .seen = seen,
            .limits = limit});
    Executable executable(g, "sample");
    for (int i = 0; i < 4; i++) executable.run();
    const auto all = data.read_ints(generated), positions = data.read_ints(position);
    for (int64_t r = 0; r < n; r++) {
        SCOPED_TRACE(fmt::format("sequence {}", r));
        Sampler alone(row(r), true, 0, capacity);
        alone.at() = starts[size_t(r)];
        alone.set(samplers[size_t(r)]);
        const uint32_t steps = std::min(limits[size_t(r)] - starts[size_t(r)], 4u);
        std::vector<int32_t> expected(size_t(capacity), -1);
        if (steps) expected = alone.many(int(steps));
        EXPECT_EQ(std::vector<int32_t>(all.begin() + r * capacity, all.begin() + (r + 1) * capacity), expected);
        EXPECT_EQ(uint32_t(positions[size_t(r)]), steps == 4 ? starts[size_t(r)] + 4 : UINT32_MAX);
    }
}

TEST(Sample, PrefillCountsItsRows) {
    Graph g(test::device());
    test::Tensors data(g);
    Tensor logits = data.floats({1, 8}, test::normal(8, 2), "logits"), count = data.ints({1}, {5}, "count", DType::u32);
    Tensor position = data.ints({1}, {10}, "position", DType::u32), token = data.ints({1}, {-1}, "token");
    Tensor generated = data.ints({4}, {-1, -1, -1, -1}, "generated"),
           seen = data.ints({8}, std::vector<int32_t>(8, 0), "seen", DType::u32);
    Buffer memory = test::device().allocate_host(sizeof(SamplerParameters), "parameters");
    memory.mapped_as<SamplerParameters>()[0] = parameters();
    mark_seen(g, data.ints({6}, {3, 5, -1, 8, 5, 7}, "prompt"), seen, count);
    sample(g, logits, {g.external(memory, 0, {8}, DType::u32, "p"), token, position, generated, seen, count});
    Executable(g, "sample").run();
    EXPECT_EQ(data.read_ints(position)[0], 15);
    const int32_t drawn = data.read_ints(token)[0];
    EXPECT_EQ(data.read_ints(generated), (std::vector<int32_t>{-1, -1, drawn, -1}));  // 14 % 4
    std::vector<int32_t> marks(8, 0);
    marks[3] = marks[5] = marks[size_t(drawn)] = 1;  // -1 and 8 are no tokens, 7 is not counted
    EXPECT_EQ(data.read_ints(seen), marks);
    expect_draw(drawn, test::normal(8, 2), {}, parameters(), 14);
}

TEST(Sample, RefusesWhatDoesNotFit) {
    EXPECT_NO_THROW(check_sampler(parameters()));
    EXPECT_NO_THROW(check_sampler(greedy_parameters()));
    EXPECT_THROW(check_sampler(parameters(-1)), Error);
    EXPECT_THROW(check_sampler(parameters(std::nanf(""))), Error);
    EXPECT_THROW(check_sampler(parameters(1, 0, 1.5f)), Error);
    EXPECT_THROW(check_sampler(parameters(1, 0, 1, -0.1f)), Error);
    EXPECT_THROW(check_sampler(parameters(1, 0, 1, 0, 0)), Error);
    Graph g(test::device());
    test::Tensors data(g);
    Tensor logits = data.poisoned({1, 8}, "logits"), p = data.poisoned({8}, "p", DType::u32), one = data.ints({1}, {0}, "one");
    Tensor position = data.ints({1}, {0}, "position", DType::u32);
    EXPECT_NO_THROW(sample(g, logits, {.parameters = p, .token = one, .position = position}));
    EXPECT_THROW(sample(g, logits, {.parameters = p, .token = one}), Error);
    EXPECT_THROW(sample(g, data.poisoned({2, 8}, "two"), {.parameters = p, .token = one, .position = position}), Error);
    EXPECT_THROW(sample(g, logits, {.parameters = p, .token = one, .position = position, .seen = p}, 3), Error);
}

}  // namespace
}  // namespace vkqat

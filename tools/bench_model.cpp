#include "tools/bench_model.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/model/session.h"
#include "tools/bench_report.h"
#include "trainer/flavors.h"

namespace vkqat {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

LlamaConfig flavor_config(const ModelBench& o, int64_t positions) {
    TrainConfig config;
    config.model.flavor = o.flavor;
    LlamaConfig c = model_config(config, o.vocabulary);
    c.max_position_embeddings = std::max(c.max_position_embeddings, positions);
    return c;
}

void decode_rows(const LlamaWeights& weights, Session& session, const std::string& name, const ModelBench& o,
                 const std::function<void(const nlohmann::json&)>& add) {
    for (int64_t position : o.positions) {
        constexpr int64_t tokens = 32;
        // What the cache holds does not change the time: positions are filled by chance, not by a prompt of that length.
        session.pretend(position);
        auto warm = Clock::now();
        while (seconds_since(warm) < 0.5) {
            session.decode(tokens, [](int32_t) { return true; });
            session.pretend(position);
        }
        std::vector<double> seconds;
        for (int i = 0; i < 9; i++) {
            auto start = Clock::now();
            session.decode(tokens, [](int32_t) { return true; });
            seconds.push_back(seconds_since(start) / double(tokens));
            session.pretend(position);
        }
        nlohmann::json r = timing(fmt::format("decode {}, {} cached", name, position), seconds);
        const double time = r["microseconds"].get<double>() / 1e6;
        r["tokens_per_s"] = 1 / time;
        r["GB_per_s"] = double(weights.bytes_per_token()) / time / 1e9;
        r["cached"] = position;
        r["nodes"] = by_node(session.profile_decode());
        session.pretend(position);
        add(r);
    }
}

void prefill_row(Session& session, const std::string& name, int64_t prompt, double flops,
                 const std::function<void(const nlohmann::json&)>& add) {
    std::vector<int32_t> ids(static_cast<size_t>(prompt));
    std::iota(ids.begin(), ids.end(), 1);
    int32_t first = 0;
    auto once = [&] {
        ids[0] = ++first % 100;  // another beginning: nothing of the cached prefix can be kept
        session.prefill(ids);
    };
    auto warm = Clock::now();
    do once();
    while (seconds_since(warm) < 0.5);
    std::vector<double> seconds;
    for (int i = 0; i < 7; i++) {
        auto start = Clock::now();
        once();
        seconds.push_back(seconds_since(start));
    }
    nlohmann::json r = timing(fmt::format("prefill {}, {} tokens", name, prompt), seconds);
    const double time = r["microseconds"].get<double>() / 1e6;
    r["tokens_per_s"] = double(prompt) / time;
    r["TFLOP_per_s"] = flops * double(prompt) / time / 1e12;
    r["nodes"] = by_node(session.profile_prefill());
    add(r);
}

}  // namespace

void bench_model(Device& device, const ModelBench& o, const std::function<void(const nlohmann::json&)>& add) {
    const int64_t furthest = *std::max_element(o.positions.begin(), o.positions.end()) + 64;
    const int64_t wanted = std::max(o.decode ? furthest : 0, o.prefill ? o.prompt + 8 : 0);
    auto start = Clock::now();
    LlamaWeights weights = o.model.empty() ? LlamaWeights(device, flavor_config(o, wanted),
                                                          LlamaWeights::Random{.bits = o.bits == 16 ? 0 : int(o.bits)})
                                           : LlamaWeights(device, o.model);
    device.wait_idle();
    const double loaded = seconds_since(start);
    const std::string name = o.model.empty() ? fmt::format("{} at {} bits", o.flavor, o.bits) : o.model;
    const LlamaConfig& c = weights.config();
    Session session(weights, {.context = std::min(wanted, c.max_position_embeddings),
                              .prefill_rows = o.prefill ? std::min<int64_t>(o.prompt, 512) : 64,
                              .cache = DType::f16});
    if (o.load && !o.model.empty()) {
        const int32_t one = 1;
        session.prefill(std::span(&one, 1));
        nlohmann::json r = timing("load " + name, {loaded});
        r["GB_per_s"] = double(weights.bytes()) / loaded / 1e9;
        r["start_to_first_token_s"] = seconds_since(start);
        add(r);
    }
    const double matrix_weights = double(c.parameters()) - double(c.vocab_size * c.hidden_size) * (c.tie_word_embeddings ? 1 : 2);
    if (o.decode) decode_rows(weights, session, name, o, add);
    if (o.prefill) prefill_row(session, name, o.prompt, 2 * matrix_weights, add);
}

}  // namespace vkqat

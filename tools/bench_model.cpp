#include "tools/bench_model.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/model/memory.h"
#include "runtime/model/session.h"
#include "runtime/support/clock.h"
#include "tools/bench_report.h"
#include "tools/console.h"
#include "tools/random_model.h"
#include "trainer/flavors.h"

namespace vkqat {
namespace {

// Of this process: what it has had in memory at most, mapped files included, and what it has now that is no file's.
struct HostMemory {
    uint64_t peak = 0, own = 0;
};

HostMemory host_memory() {
    HostMemory memory;
    std::ifstream status("/proc/self/status");
    for (std::string key, line; status >> key && std::getline(status, line);) {
        const uint64_t bytes = std::strtoull(line.c_str(), nullptr, 10) * 1024;
        if (key == "VmHWM:") memory.peak = bytes;
        if (key == "RssAnon:" || key == "RssShmem:") memory.own += bytes;
    }
    return memory;
}

LlamaConfig flavor_config(const ModelBench& o, int64_t positions) {
    TrainConfig config;
    config.model.flavor = o.flavor;
    LlamaConfig c = model_config(config, o.vocabulary);
    c.max_position_embeddings = std::max(c.max_position_embeddings, positions);
    return c;
}

void decode_rows(const LlamaWeights& weights, int64_t batch, const SessionOptions& options, const std::string& name,
                 const ModelBench& o, const std::function<void(const nlohmann::json&)>& add) {
    constexpr int64_t tokens = 32;  // one submission
    Sequences sequences(weights, {.count = batch, .context = options.context, .prefill_rows = 1, .cache = options.cache});
    for (int64_t position : o.positions) {
        // What the cache holds does not change the time: positions are filled by chance, not by a prompt of that length.
        const std::vector<int32_t> cached(size_t(position) + 1, 0);
        auto once = [&] {
            for (int64_t i = 0; i < batch; i++) sequences.resume(i, cached);
            auto start = Clock::now();
            weights.device().wait(sequences.decode(tokens));
            return seconds_since(start) / double(tokens);
        };
        auto warm = Clock::now();
        do once();
        while (seconds_since(warm) < 0.5);
        std::vector<double> seconds;
        for (int i = 0; i < 9; i++) seconds.push_back(once());
        const std::string many = batch > 1 ? fmt::format("{} x ", batch) : "";
        nlohmann::json r = timing(fmt::format("decode {}{}, {} cached", many, name, position), seconds);
        const double time = r["microseconds"].get<double>() / 1e6;
        r["tokens_per_s"] = double(batch) / time;
        r["GB_per_s"] = double(weights.bytes_per_token()) / time / 1e9;
        r["cached"] = position;
        r["batch"] = batch;
        r["cache"] = vkqat::name(options.cache);
        for (int64_t i = 0; i < batch; i++) sequences.resume(i, cached);
        r["nodes"] = by_node(sequences.profile_decode());
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

LlamaWeights::Random bench_form(const std::string& quantizer, int64_t bits) {
    using Form = LlamaWeights::Random::Form;
    LlamaWeights::Random random{.bits = bits == 16 ? 0 : int(bits)};
    if (quantizer == "bitnet158") random.form = Form::ternary, random.bits = 2;
    if (quantizer == "bitnet158-1.6") random.form = Form::five_to_a_byte, random.bits = 2;
    if (quantizer == "onebit") random.form = Form::onebit, random.bits = 1;
    if (quantizer == "int_asym") random.form = Form::int_asym;
    if (quantizer == "nf") random.form = Form::nf;
    return random;
}

void bench_model(Device& device, const ModelBench& given, const std::function<void(const nlohmann::json&)>& add) {
    ModelBench o = given;
    if (!o.write.empty()) {
        write_random_model(o.write, flavor_config(o, 0), int(o.bits));
        o.model = o.write;
        o.flavor.clear();
    }
    const int64_t furthest = *std::max_element(o.positions.begin(), o.positions.end()) + 64;
    const int64_t wanted = std::max(o.decode ? furthest : 0, o.prefill ? o.prompt + 8 : 0);
    auto start = Clock::now();
    const LlamaWeights::Random random = bench_form(o.quantizer, o.bits);
    LlamaWeights::Random planned_random = random;
    planned_random.planned = true;
    const LlamaWeights planned = o.model.empty() ? LlamaWeights(device, flavor_config(o, wanted), planned_random)
                                                 : LlamaWeights(device, o.model, LlamaWeights::Planned{});
    const SessionOptions options{.context = std::min(std::max<int64_t>(wanted, 16), planned.config().max_position_embeddings),
                                 .prefill_rows = o.prefill ? std::min<int64_t>(o.prompt, 512) : 64,
                                 .cache = o.cache};
    const int64_t most = o.decode ? *std::max_element(o.batches.begin(), o.batches.end()) : 1;
    require_memory(planned, sequences_options(options, most), o.model.empty() ? o.flavor : o.model);
    ProgressLine progress;
    auto show = [&](uint64_t done, uint64_t total) { progress.show("loading " + o.model, double(done), double(total)); };
    LlamaWeights weights =
        o.model.empty() ? LlamaWeights(device, flavor_config(o, wanted), random) : LlamaWeights(device, o.model, show);
    device.wait_idle();
    progress.clear();
    const double loaded = seconds_since(start);
    const std::string name = !o.model.empty()             ? o.model
                             : o.quantizer != "nonlinear" ? fmt::format("{} {} at {} bits", o.flavor, o.quantizer, random.bits)
                                                          : fmt::format("{} at {} bits", o.flavor, o.bits);
    const LlamaConfig& c = weights.config();
    if (o.load && !o.model.empty()) {
        const int32_t one = 1;
        Session(weights, options).prefill(std::span(&one, 1));
        nlohmann::json r = timing("load " + name, {loaded});
        const double first = o.device_seconds + seconds_since(start);
        r["GB_per_s"] = double(weights.bytes()) / loaded / 1e9;
        r["start_to_first_token_s"] = first;
        const HostMemory memory = host_memory();
        r["model_bytes"] = weights.bytes();
        r["peak_resident_bytes"] = memory.peak;
        r["own_bytes"] = memory.own;
        r["text"] = fmt::format(
            "first token {:.2f} s after the program began to open the device; host memory: {} at most with mapped "
            "files, {} without them now",
            first, human_bytes(double(memory.peak)), human_bytes(double(memory.own)));
        add(r);
    }
    const double matrix_weights = double(c.parameters()) - double(c.vocab_size * c.hidden_size) * (c.tie_word_embeddings ? 1 : 2);
    if (o.decode)
        for (int64_t batch : o.batches) decode_rows(weights, batch, options, name, o, add);
    if (o.prefill) {
        Session session(weights, options);
        prefill_row(session, name, o.prompt, 2 * matrix_weights, add);
    }
}

}  // namespace vkqat

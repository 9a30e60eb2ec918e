// vkqat bench: how fast the device is at the few things that everything else is made of.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/graph/executable.h"
#include "runtime/model/session.h"
#include "runtime/ops/dense_matvec.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/packed_linear.h"
#include "runtime/ops/random.h"
#include "runtime/ops/read_all.h"
#include "runtime/ops/ternary_linear.h"
#include "shaders/args/add.h"
#include "tools/bench_attention.h"
#include "tools/bench_model.h"
#include "tools/bench_tasks.h"
#include "tools/bench_train.h"
#include "tools/command.h"
#include "tools/console.h"

namespace vkqat {
namespace {

struct Timing {
    double median, lowest, highest;
};

// Seconds of one execution, over `rounds`, after half a second in which the device's clocks come up.
Timing measure(Executable& executable, int rounds = 15) {
    using clock = std::chrono::steady_clock;
    auto start = clock::now();
    do executable.run();
    while (std::chrono::duration<double>(clock::now() - start).count() < 0.5);
    std::vector<double> seconds;
    for (int i = 0; i < rounds; i++) seconds.push_back(executable.timed_run());
    std::sort(seconds.begin(), seconds.end());
    return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

// Random contents in device memory: constant data can be faster than real data.
class RandomTensors {
public:
    explicit RandomTensors(Device& device) : device_(device) {}
    Tensor add(Graph& g, const Shape& shape, DType type, float low = -1, float high = 1) {
        const auto element = int64_t(bytes(type)), count = (shape.elements() * element + 15) / 16 * 16 / element;
        buffers_.push_back(device_.allocate(uint64_t(count * element), "benchmark"));
        Graph fill(device_);
        random_fill(fill, fill.external(buffers_.back(), 0, {count}, type, "random"), uint32_t(buffers_.size()), low, high);
        Executable(fill, "random").run();
        return g.external(buffers_.back(), 0, shape, type, "random");
    }

private:
    Device& device_;
    std::vector<Buffer> buffers_;
};

nlohmann::json row(const std::string& name, const Timing& t, double bytes, double flops, int repeats) {
    double seconds = t.median / repeats;
    nlohmann::json j{{"name", name},
                     {"microseconds", seconds * 1e6},
                     {"fastest", t.lowest / repeats * 1e6},
                     {"slowest", t.highest / repeats * 1e6}};
    if (bytes > 0) j["GB_per_s"] = bytes / seconds / 1e9;
    if (flops > 0) j["TFLOP_per_s"] = flops / seconds / 1e12;
    return j;
}

nlohmann::json bench_copy(Device& device, uint64_t megabytes) {
    auto n = int64_t(megabytes * 1000000 / 4 / 3);
    RandomTensors random(device);
    Graph g(device);
    Tensor t[3];
    for (Tensor& x : t) x = random.add(g, {n}, DType::f32);
    g.dispatch(Kernel{"add", {64, device.capabilities().uniform_loads() && n % 8 == 0, 4}}, {in(t[0]), in(t[1]), out(t[2])},
               AddArgs{.count = uint32_t(n)}, linear_grid((n + 255) / 256), "add");
    Executable executable(g, "copy");
    return row(fmt::format("add of {} MB arrays (2 read, 1 written)", n * 4 / 1000000), measure(executable), double(n) * 12, 0,
               1);
}

// `block`, if any: m, n, k, subgroups along each, 1 to fetch ahead.
nlohmann::json bench_matmul(Device& device, Product product, const Shape& mnk, Precision precision,
                            const std::vector<uint32_t>& block) {
    RandomTensors random(device);
    Graph g(device);
    g.set_precision(precision);
    // On matrix units as training has them: operands in the type of the products.
    const DType type = product_type(g);
    const int64_t m = mnk[0], n = mnk[1], k = mnk[2];
    Tensor a = random.add(g, product == Product::tn ? Shape{k, m} : Shape{m, k}, type);
    Tensor b = random.add(g, product == Product::nt ? Shape{n, k} : Shape{k, n}, type);
    Tensor c = random.add(g, {m, n}, DType::f32);
    MatmulOptions options;
    std::string given;
    if (!block.empty()) {
        options.variant = MatmulVariant::matrix_units;
        options.block = MatrixBlock{block[0], block[1], block[2], block[3], block[4], block[5], block[6] != 0, 0};
        given = fmt::format(", block {}", fmt::join(block, "/"));
    }
    matmul(g, product, a, b, {}, c, "matmul", options);
    Executable executable(g, "matmul");
    const char* products[] = {"nt", "nn", "tn"};
    return row(fmt::format("matmul {} {} x {} x {} in {}{}", products[int(product)], m, n, k, name(type), given),
               measure(executable), 0, 2.0 * double(m) * double(n) * double(k), 1);
}

struct MatvecOptions {
    int64_t tokens = 1;
    PackedLinearVariant variant = PackedLinearVariant::automatic;
    MatvecTuning tuning = {};
};

// How often a matrix is used in one measurement, so that what a submission costs (6 to 7 us on an H200) hardly counts, and as how
// many copies, so that caches do not answer.
struct Rotation {
    static constexpr int times = 16;
    int copies;
    Rotation(uint64_t bytes, uint64_t rotate_bytes)
        : copies(int(std::clamp<uint64_t>((rotate_bytes + bytes - 1) / bytes, 1, times))) {}
};

// Few tokens through a packed matrix.
nlohmann::json bench_packed(Device& device, int64_t out_rows, int64_t in_cols, int bits, uint64_t rotate_bytes,
                            const MatvecOptions& options) {
    const int64_t block = 64;
    PackedExtents extents = packed_extents({out_rows}, in_cols, bits, block);
    uint64_t index_bytes = uint64_t(extents.words) * 4, scale_bytes = uint64_t(extents.scales) * 2;
    const Rotation rotation(index_bytes + scale_bytes, rotate_bytes);
    RandomTensors random(device);
    Graph g(device);
    Tensor centroids = random.add(g, {1, int64_t(1) << bits}, DType::f32),
           x = random.add(g, {options.tokens, in_cols}, DType::f32);
    std::vector<PackedLayer> layers;
    for (int i = 0; i < rotation.copies; i++) {
        Tensor indices = random.add(g, {extents.words}, DType::u32),
               scales = random.add(g, {extents.scales}, DType::bf16, 0.5f, 1.5f);
        layers.push_back({indices, scales, centroids, bits, block, in_cols, {out_rows}});
    }
    for (int i = 0; i < rotation.times; i++)
        packed_linear(g, x, layers[size_t(i % rotation.copies)], "packed_linear", {}, options.variant, options.tuning);
    Executable executable(g, "packed");
    return row(fmt::format("packed matvec {} x {}, {} bits", out_rows, in_cols, bits), measure(executable),
               double(index_bytes + scale_bytes), 2.0 * double(out_rows) * double(in_cols), rotation.times);
}

// Few tokens through a ternary matrix, in integers. tuning: how (0: as it chooses, or the sum of 1: without the device's dot
// product, 2: integers made by an operation of their own, 4: by every workgroup), width, tiles, depth, copies.
nlohmann::json bench_ternary(Device& device, int64_t out_rows, int64_t in_cols, bool five, uint64_t rotate_bytes, int64_t tokens,
                             const std::vector<uint32_t>& tuning) {
    const int64_t words = ternary_words({out_rows}, in_cols, five);
    const Rotation rotation(uint64_t(words) * 4, rotate_bytes);
    RandomTensors random(device);
    Graph g(device);
    TernaryVariant variant;
    if (!tuning.empty()) {
        variant = {.dot = tuning[0] & 1 ? 0 : -1, .quantized = tuning[0] & 2 ? 1 : tuning[0] & 4 ? 0 : -1};
        variant.tuning = {.width = tuning[1], .tiles = tuning[2], .depth = tuning[3], .copies = tuning[4]};
    }
    Tensor centroids = random.add(g, {1, 4}, DType::f32), x = random.add(g, {tokens, in_cols}, DType::f32);
    std::vector<TernaryLayer> layers;
    for (int i = 0; i < rotation.copies; i++) {
        Tensor indices = random.add(g, {words}, DType::u32), scales = random.add(g, {out_rows}, DType::bf16, 0.5f, 1.5f);
        layers.push_back({indices, scales, centroids, five, in_cols, {out_rows}});
    }
    for (int i = 0; i < rotation.times; i++)
        ternary_linear(g, x, layers[size_t(i % rotation.copies)], "ternary_linear", {}, {}, variant);
    Executable executable(g, "ternary");
    return row(fmt::format("ternary matvec {} x {}, {} bits, 8-bit inputs", out_rows, in_cols, five ? "1.6" : "2"),
               measure(executable), double(words * 4 + out_rows * 2), 2.0 * double(out_rows) * double(in_cols), rotation.times);
}

// Reading alone, the ceiling of what follows.
nlohmann::json bench_read(Device& device, bool small) {
    RandomTensors random(device);
    Graph g(device);
    Tensor words = random.add(g, {small ? 8 << 20 : 512 << 20}, DType::u32);
    const int times = 4;
    for (int i = 0; i < times; i++) read_all(g, words);
    Executable executable(g, "read");
    return row(fmt::format("reading {} MB", words.bytes() / 1000000), measure(executable), double(words.bytes()), 0, times);
}

// One token through a dense matrix of 2 GB.
nlohmann::json bench_dense(Device& device, bool small) {
    const int64_t rows = small ? 2048 : 131072, cols = 8192;
    RandomTensors random(device);
    Graph g(device);
    Tensor weight = random.add(g, {rows, cols}, DType::bf16), x = random.add(g, {1, cols}, DType::f32);
    const int times = 4;
    for (int i = 0; i < times; i++) dense_linear(g, x, weight, "dense");
    Executable executable(g, "dense");
    return row(fmt::format("bf16 matvec {} x {}", rows, cols), measure(executable), double(rows * cols) * 2, 0, times);
}

// The attention node of a decoding step over caches of several lengths, as a 12B has it: 32 heads, 8 kv heads of 128, f16.
void bench_attention(Device& device, bool small, const std::function<void(const nlohmann::json&)>& add) {
    std::vector<AttentionBench> cases;
    for (int64_t cached : {1, 256, 1000, 4000, 16000, 32768, 65536, 100000})
        if (!small || cached <= 1000) cases.push_back({.cache = DType::f16, .cached = cached});
    const AttentionBench& longest = cases.back();
    const uint64_t cache = uint64_t(longest.cached / 64 * 64 + 64) * longest.shape.kv_heads * longest.shape.head_dim * 2 * 2;
    AttentionBencher bencher(device, longest.shape.head_dim, longest.cached, 2 * cache, small ? 0 : uint64_t(256) << 20);
    bencher.compile(cases);
    for (const AttentionBench& each : cases) {
        AttentionTime t = bencher.measure(each);
        add(row(fmt::format("decode attention, {} cached", each.cached), {t.median, t.fastest, t.slowest}, t.bytes, 0, 1));
    }
}

void print(const nlohmann::json& r) {
    std::string line = fmt::format("{:<58} {:>11.1f} us", r["name"].get<std::string>(), r["microseconds"].get<double>());
    if (r.contains("GB_per_s")) line += fmt::format(" {:>9.1f} GB/s", r["GB_per_s"].get<double>());
    if (r.contains("share_of_reading")) line += fmt::format(" {:>5.1f} % of reading", r["share_of_reading"].get<double>() * 100);
    if (r.contains("TFLOP_per_s")) line += fmt::format(" {:>9.3f} TFLOP/s", r["TFLOP_per_s"].get<double>());
    if (r.contains("tokens_per_s")) line += fmt::format(" {:>9.1f} tokens/s", r["tokens_per_s"].get<double>());
    fmt::print("{}   ({:.1f} to {:.1f} us)\n", line, r["fastest"].get<double>(), r["slowest"].get<double>());
    if (r.contains("text")) fmt::print("    {}\n", r["text"].get<std::string>());
    if (r.contains("memory_GB")) {
        double total = 0;
        std::string parts;
        for (const auto& [part, gigabytes] : r["memory_GB"].items()) {
            total += gigabytes.get<double>();
            parts += fmt::format(", {} {:.2f}", part, gigabytes.get<double>());
        }
        fmt::print("    memory {:.2f} GB{}\n", total, parts);
        if (r.contains("kmeans_fit_s"))
            fmt::print("    quantizer {:.1f} % of a step; k-means fit of all layers {:.3f} s\n",
                       r["quantizer_share"].get<double>() * 100, r["kmeans_fit_s"].get<double>());
    }
    if (!r.contains("nodes")) return;
    fmt::print("    {:<26} {:>6} {:>11} {:>9} {:>9} {:>9}   (one by one, with their timestamps)\n", "node", "count", "us",
               "us each", "GB/s", "TFLOP/s");
    for (const auto& n : r["nodes"])
        fmt::print("    {:<26} {:>6} {:>11.1f} {:>9.2f} {:>9.1f} {:>9.3f}\n", n["node"].get<std::string>(), n["count"].get<int>(),
                   n["microseconds"].get<double>(), n["each"].get<double>(), n["GB_per_s"].get<double>(),
                   n["TFLOP_per_s"].get<double>());
}

struct Options {
    std::vector<std::string> what;
    ModelBench whole;
    std::string cache = "f16";
    std::vector<int64_t> batches;
    TrainBench train;
    TaskBench tasks;
    int64_t size = 0;
    std::vector<int64_t> extents;
    std::vector<uint32_t> block, tuning;
    bool json = false;
};

void run(const Options& options, const std::string& selector) {
    Stopwatch opening;
    Gpu gpu(selector);
    const double device_seconds = opening.seconds();
    Device& device = gpu.device;
    const Capabilities& c = device.capabilities();
    bool cpu = c.kind == DeviceKind::cpu;
    nlohmann::json report{
        {"device", c.name}, {"driver", c.driver}, {"kind", kind_name(c.kind)}, {"rows", nlohmann::json::array()}};
    if (!options.json) fmt::print("{}\n", device_line(device));
    if (cpu) report["note"] = "a CPU device: these are no figures of a GPU";
    double reading = 0;  // GB/s of reading alone, once it is measured
    auto add = [&](nlohmann::json r) {
        if (reading > 0 && r.contains("GB_per_s")) r["share_of_reading"] = r["GB_per_s"].get<double>() / reading;
        report["rows"].push_back(r);
        if (!options.json) print(r);
    };
    auto wanted = [&](const char* name) {
        return options.what.empty() || std::find(options.what.begin(), options.what.end(), name) != options.what.end();
    };
    if (wanted("copy")) add(bench_copy(device, cpu ? 48 : 3000));
    if (wanted("matmul")) {
        const int64_t size = options.size ? options.size : cpu ? 256 : 4096;
        const Shape shape =
            options.extents.empty() ? Shape{size, size, size} : Shape{options.extents[0], options.extents[1], options.extents[2]};
        std::vector<Precision> precisions{Precision::f32};
        if (c.cooperative_matrix(DType::bf16, DType::f32)) precisions.push_back(Precision::bf16);
        if (c.cooperative_matrix(DType::f16, DType::f32)) precisions.push_back(Precision::f16);
        for (Precision p : precisions)
            for (Product product : {Product::nt, Product::nn, Product::tn}) {
                if (!options.block.empty() && p == Precision::f32) continue;
                add(bench_matmul(device, product, shape, p, options.block));
            }
    }
    if (wanted("attention")) bench_attention(device, cpu, add);
    if (wanted("matvec")) {
        const nlohmann::json read = bench_read(device, cpu);
        add(read);
        reading = read["GB_per_s"];
        if (options.tuning.empty()) add(bench_dense(device, cpu));
        std::vector<std::pair<int64_t, int64_t>> shapes{{65536, 8192}, {8192, 8192}, {4096, 4096}};
        std::vector<int> widths{1, 2, 3, 4, 8};
        if (cpu) shapes = {{1024, 1024}};
        if (options.size) shapes = {{options.size, options.size}};
        MatvecOptions of;
        if (!options.extents.empty()) {
            shapes = {{options.extents[0], options.extents[1]}};
            of.tokens = options.extents[2];
        }
        if (!options.tuning.empty()) {
            const std::vector<uint32_t>& t = options.tuning;
            of.variant = PackedLinearVariant(t[0]);
            of.tuning = {.width = t[1], .tiles = t[2], .depth = t[3], .copies = t[4], .chunks = t[5]};
            widths = {int(options.whole.bits)};
        }
        const std::string& quantizer = options.whole.quantizer;
        const uint64_t rotate_bytes = cpu ? 0 : uint64_t(1) << 30;
        for (auto [rows, cols] : shapes)
            if (quantizer.starts_with("bitnet158"))
                add(bench_ternary(device, rows, cols, quantizer == "bitnet158-1.6", rotate_bytes, of.tokens, options.tuning));
            else
                for (int bits : widths) add(bench_packed(device, rows, cols, bits, rotate_bytes, of));
    }
    if (!options.whole.flavor.empty() || !options.train.dimensions.empty()) {
        TrainBench train = options.train;
        train.flavor = options.whole.flavor;
        train.bits = options.whole.bits;
        if (!options.batches.empty()) train.batch = options.batches[0];
        train.vocabulary = options.whole.vocabulary;
        if (wanted("train")) bench_train(device, train, add);
    }
    if (!options.whole.write.empty() && options.whole.flavor.empty()) throw UsageError("--write needs --flavor");
    if (!options.whole.model.empty() || !options.whole.flavor.empty()) {
        ModelBench whole = options.whole;
        whole.decode = wanted("decode");
        whole.prefill = wanted("prefill");
        whole.load = wanted("load");
        whole.device_seconds = device_seconds;
        if (!options.batches.empty()) whole.batches = options.batches;
        for (DType type : {DType::f32, DType::f16, DType::bf16, DType::i8})
            if (options.cache == name(type)) whole.cache = type;
        if (whole.decode || whole.prefill || whole.load) bench_model(device, whole, add);
    }
    if (!options.tasks.tasks.empty() && wanted("tasks")) {
        if (options.whole.flavor.empty() || options.tasks.tokenizer.empty())
            throw UsageError("--tasks needs --flavor and --tokenizer");
        TaskBench tasks = options.tasks;
        tasks.flavor = options.whole.flavor;
        tasks.bits = options.whole.bits;
        bench_tasks(device, tasks, add);
    }
    if (options.json) fmt::print("{}\n", report.dump(1));
    if (cpu && !options.json) fmt::print("This is a CPU device: these are no figures of a GPU.\n");
}

}  // namespace

void add_bench_command(CLI::App& app) {
    auto options = std::make_shared<Options>();
    CLI::App* command = app.add_subcommand("bench", "measure copies, matrix products, packed matvecs, decoding");
    command
        ->add_option("what", options->what,
                     "copy, matmul, matvec, attention; with a model also decode, prefill, load; with a flavor also train, and "
                     "tasks with --tasks (default: all)")
        ->check(CLI::IsMember({"copy", "matmul", "matvec", "attention", "decode", "prefill", "load", "train", "tasks"}));
    ModelBench& whole = options->whole;
    auto* model = command->add_option("--model", whole.model, "a model directory or .gguf file");
    command->add_option("--flavor", whole.flavor, "instead of --model: a shape (500M, 1B, 4B, 12B, 31B), with random weights")
        ->excludes(model);
    command
        ->add_option("--write", whole.write,
                     "decode, prefill, load: writes the flavor with random weights to this new directory and loads it from there")
        ->type_name("DIR")
        ->excludes(model);
    command->add_option("--bits", whole.bits, "of the flavor's weights; 16: bf16")
        ->check(CLI::IsMember({1, 2, 3, 4, 8, 16}))
        ->capture_default_str();
    command
        ->add_option("--quantizer", whole.quantizer,
                     "of the flavor's weights, and of matvec: nonlinear (tables of centroids, in --bits), bitnet158 (ternary, 2 "
                     "bits, 8-bit "
                     "inputs), bitnet158-1.6 (the same, five to a byte); of the flavor also onebit, int_asym and nf (in --bits)")
        ->check(CLI::IsMember({"nonlinear", "bitnet158", "bitnet158-1.6", "onebit", "int_asym", "nf"}))
        ->capture_default_str();
    command->add_option("--vocabulary", whole.vocabulary, "of the flavor")->check(CLI::Range(16, 1 << 20))->capture_default_str();
    command->add_option("--cached", whole.positions, "decode: positions that are cached already, one or more")
        ->check(CLI::Range(0, 1 << 20));
    command
        ->add_option("--batch", options->batches, "decode: sequences at once, one number or more (1); train: windows of a step")
        ->check(CLI::Range(1, 4096));
    command->add_option("--cache", options->cache, "decode, prefill: type of the KV cache: f32, f16, bf16, i8")
        ->check(CLI::IsMember({"f32", "f16", "bf16", "i8"}))
        ->capture_default_str();
    command->add_option("--prompt", whole.prompt, "prefill: tokens of the prompt")
        ->check(CLI::Range(1, 1 << 17))
        ->capture_default_str();
    TrainBench& train = options->train;
    command->add_option("--seq", train.seq_len, "train: tokens of a window")
        ->check(CLI::Range(1, 1 << 17))
        ->capture_default_str();
    command->add_option("--precision", train.precision, "train: auto, bf16 or fp32")->capture_default_str();
    command->add_option("--checkpointing", train.checkpointing, "train: activation checkpointing")
        ->check(CLI::IsMember({"none", "selective", "full"}))
        ->capture_default_str();
    command->add_option("--moments", train.moments, "train: type of AdamW's moments")
        ->check(CLI::IsMember({"fp32", "bf16"}))
        ->capture_default_str();
    command
        ->add_option("--dimensions", train.dimensions,
                     "train: a shape instead of a flavor: hidden_size layers heads kv_heads intermediate_size")
        ->expected(5)
        ->check(CLI::Range(1, 1 << 20));
    command->add_option("--tasks", options->tasks.tasks, "tasks: [NAME=]FILE, as of `vkqat eval`")->type_name("TASK");
    command->add_option("--tokenizer", options->tasks.tokenizer, "tasks: a tokenizer with the flavor's vocabulary")
        ->type_name("DIR");
    command->add_option("--limit", options->tasks.limit, "tasks: the first questions only")->check(CLI::Range(1, 1 << 30));
    command->add_option("--batch-tokens", options->tasks.batch_tokens, "tasks: tokens at a time (4096; 256 on a CPU)")
        ->check(CLI::Range(16, 1 << 20));
    command->add_option("--size", options->size, "rows and columns of the matrices")->check(CLI::Range(8, 65536));
    command->add_option("--extents", options->extents, "instead of --size: m n k (matmul), rows columns tokens (matvec)")
        ->expected(3)
        ->check(CLI::Range(1, 1 << 20));
    command
        ->add_option("--block", options->block,
                     "matmul on matrix units: m n k of a workgroup, subgroups along each, 1 to fetch ahead (for measurements)")
        ->expected(7);
    command
        ->add_option("--tuning", options->tuning,
                     "matvec of --bits: variant (0 as it chooses, 1 rows, 2 matvec, 3 in integers; of bitnet158 as "
                     "tools/bench.cpp says), width, quads, depth, copies, chunks; 0: as it chooses (for measurements)")
        ->expected(6);
    command->add_flag("--json", options->json, "as JSON");
    auto device = add_device_option(*command);
    command->footer(
        "Examples:\n  vkqat bench\n  vkqat bench matmul --size 2048\n  vkqat bench copy --json\n  vkqat bench decode prefill "
        "--flavor 12B --bits 4\n"
        "  vkqat bench train --flavor 1B --bits 4 --batch 8 --seq 2048\n"
        "  vkqat bench decode --model my-model --cached 0 4096 32000\n"
        "  vkqat bench decode --flavor 12B --batch 1 4 16\n  vkqat bench load --model my-model\n"
        "  vkqat bench load --flavor 12B --bits 4 --write random-12B"
        "\n  vkqat bench tasks --flavor 1B --bits 16 --tokenizer llama3 --tasks hellaswag.jsonl");
    command->callback([options, device] { run(*options, *device); });
}

}  // namespace vkqat

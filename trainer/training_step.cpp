#include "trainer/training_step.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "runtime/ops/attention.h"
#include "runtime/ops/cross_entropy.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/rope.h"
#include "shaders/args/kmeans.h"
#include "trainer/kmeans.h"

namespace vkqat {
namespace {

constexpr std::array<std::string_view, 3> recompute_names{"none", "selective", "full"};

template <class T>
void fill(const Buffer& buffer, const std::vector<T>& values) {
    std::memcpy(buffer.mapped(), values.data(), values.size() * sizeof(T));
}

}  // namespace

Recompute parse_recompute(std::string_view mode) {
    auto found = std::find(recompute_names.begin(), recompute_names.end(), mode);
    if (found == recompute_names.end())
        fail("activation_checkpoint.mode: expected {}, found {}", fmt::join(recompute_names, ", "), mode);
    return Recompute(found - recompute_names.begin());
}

struct TrainingStep::Graphs {
    Graphs(TrainingStep& s);
    std::unique_ptr<Graph> model_graph(TrainingStep& s, Graph::Mode mode, bool accumulate);
    std::unique_ptr<Graph> prepare_graph(TrainingStep& s, bool quantize, bool partly = false);
    std::unique_ptr<Graph> fit_graph(TrainingStep& s, bool fisher);
    std::unique_ptr<Graph> update_graph(TrainingStep& s);
    std::unique_ptr<Graph> quantizer_graph(TrainingStep& s);
    std::string what_fits(TrainingStep& s, uint64_t limit);

    std::unique_ptr<Graph> first_graph, next_graph, evaluate_graph, full_graph, quantized_graph, fit_graph_, first_fit_graph,
        squares_graph, update_graph_, quantizer_graph_, partly_graph;
    std::unique_ptr<Executable> first, next, evaluate, prepare_full, prepare_quantized, fit, first_fit, squares, update,
        quantizer_gradients, prepare_partly;
    uint64_t arena_bytes = 0;
    std::unique_ptr<GradientExchange> exchange;  // with several ranks
    GradientExchange::Schedule first_schedule, next_schedule;
};

TrainingStep::TrainingStep(Device& device, ParameterStore& parameters, const TrainingStepOptions& options)
    : device_(device), parameters_(parameters), options_(options) {
    const int64_t tokens = options.batch * options.seq_len;
    const uint64_t words = uint64_t(tokens) * 4;
    for (Buffer* b : {&ids_, &labels_, &document_start_, &document_end_, &order_})
        *b = device.allocate_host(words, "training batch");
    scale_ = device.allocate_host(4, "scale of the loss");
    settings_ = device.allocate_host(sizeof(AdamwSettings), "settings of the optimiser");
    scalars_ = device.allocate_host(sizeof(KmeansScalars), "settings of the k-means fit");
    // The ranks add up their losses on the CPU.
    loss_ = options.ranks && options.ranks->size() > 1 ? device.allocate_host(4, "loss") : device.allocate(4, "loss");
    if (options.ranks && options.ranks->size() > 1 && options.exchange.zero1)
        squares_ = device.allocate(uint64_t(parameters.squares()) * 4, "gradient norm");
    rows_ = device.allocate(words, "loss of each token");
    state_ = device.allocate(sizeof(AdamwState), "state of the optimiser");
    AdamwState start{};
    start.beta1_power = start.beta2_power = 1;
    restore_state(start);
    rope_ = upload_rope_table(device, parameters.config(), options.seq_len);

    validate(options.quantizer);
    if (squares_ && options.quantizer.has_gradient())
        fail(
            "distributed.zero1: the gradients of quantization.quantizer need whole blocks, and a rank has a part of them; choose "
            "false");
    if (options.quantizer.kind != QuantizerKind::none)
        for (size_t i = 0; i < parameters.parameters().size(); i++) {
            const Parameter& p = parameters.parameters()[i];
            if (!p.quantized) continue;
            block_layout(options.quantizer, p.shape[0], p.shape[1], p.layer_name());  // Error if a block does not divide it
            quantized_layers_.push_back(i);
        }
    int64_t table_size = options.quantizer.centroids();
    if (table_size > 0 && !quantized_layers_.empty()) {
        centroids_ = device.allocate(quantized_layers_.size() * uint64_t(table_size) * 4, "centroids");
        std::vector<float> even(size_t(table_size), 0);  // in case a first fit meets weights that are not finite
        for (int64_t c = 0; c < table_size; c++)
            even[size_t(c)] = table_size == 1 ? 0 : -2.f + 4.f * float(c) / float(table_size - 1);
        for (size_t layer = 0; layer < quantized_layers_.size(); layer++) set_centroids(layer, even);
    }
    if (options.gradual && options.quantizer.has_gradient())
        fail(
            "quantization.switch_on_steps: quantizer '{}' has a gradient of its own, which only goes with quantization as a "
            "whole",
            name(options.quantizer.kind));
    if (options.bitlinear_norm != BitlinearNorm::none) {
        const LlamaConfig& c = parameters.config();
        const std::vector<float> ones(size_t(std::max({c.hidden_size, c.q_dim(), c.intermediate_size})), 1.f);
        ones_ = device.allocate(ones.size() * 4, "weights of norms");
        device.upload(ones_, 0, std::as_bytes(std::span(ones)));
    }
    if (options.quantize_activations || options.gradual) {
        strength_ = device.allocate_host(4, "strength of quantization");
        set_quantized(false);
    }
    if (options.teacher && options.precision == Precision::f16)
        fail("distillation takes no fp16 products: its losses are not scaled; choose bf16 or fp32");
    graphs_ = std::make_unique<Graphs>(*this);
}

TrainingStep::~TrainingStep() = default;

void TrainingStep::set_quantized(bool on) {
    quantized_ = on;
    if (!strength_) return;
    device_.wait_idle();  // a step may be reading it
    *static_cast<float*>(strength_.mapped()) = on ? 1.f : 0.f;
    partly_ = false;
}

void TrainingStep::set_strength(double strength) {
    if (!options_.gradual) fail("quantization was not set up to be switched on gradually");
    set_quantized(true);
    *static_cast<float*>(strength_.mapped()) = float(strength);
    partly_ = strength < 1;
}

std::unique_ptr<Graph> TrainingStep::Graphs::model_graph(TrainingStep& s, Graph::Mode mode, bool accumulate) {
    auto graph = std::make_unique<Graph>(s.device_, mode);
    Graph& g = *graph;
    g.set_precision(s.options_.precision);
    const LlamaConfig& c = s.parameters_.config();
    const int64_t batch = s.options_.batch, seq_len = s.options_.seq_len, tokens = batch * seq_len;
    auto input = [&](const Buffer& b, const Shape& shape, const char* name) { return g.external(b, 0, shape, DType::i32, name); };
    Tensor ids = input(s.ids_, {tokens}, "ids"), labels = input(s.labels_, {tokens}, "labels");
    Tensor start = input(s.document_start_, {batch, seq_len}, "document_start");
    Tensor end = input(s.document_end_, {batch, seq_len}, "document_end"), order = input(s.order_, {tokens}, "order");
    Tensor scale = g.external(s.scale_, 0, {1}, DType::f32, "scale"), loss = g.external(s.loss_, 0, {1}, DType::f32, "loss");
    Tensor rope_values = g.external(s.rope_, 0, {seq_len, c.head_dim}, DType::f32, "rope");
    LlamaTensors model = s.parameters_.model(g, accumulate);
    AttentionShape shape{uint32_t(batch), uint32_t(seq_len), uint32_t(c.heads), uint32_t(c.kv_heads), uint32_t(c.head_dim)};
    // Kept as attention and the product behind it round it; quantized activations are made of fp32.
    const bool bitlinear = s.options_.quantize_activations;
    const bool fp32_inputs = bitlinear || s.options_.quantizer.kind == QuantizerKind::onebit;
    const DType qkv_type = mode == Graph::Mode::training && !fp32_inputs ? attention_type(g, shape) : DType::f32;
    if (bitlinear)
        use_bitlinear(
            model, c, s.options_.bitlinear_norm,
            [&](int64_t n) { return g.external(s.ones_, 0, {n}, DType::f32, "weights of norms"); },
            g.external(s.strength_, 0, {1}, DType::f32, "strength of quantization"));
    // Losses are added up one behind the other, from those of earlier micro-steps on.
    Tensor base = accumulate ? g.external(s.loss_, 0, {1}, DType::f32, "loss so far") : Tensor();
    Teacher* teacher = mode == Graph::Mode::training ? s.options_.teacher.get() : nullptr;
    TeacherTensors taught;
    LayerInput layer_input;
    if (teacher) {
        taught = teacher->forward(g, ids, start, end);
        if (!taught.layer_inputs.empty())
            layer_input = [&](Graph& to, int64_t layer, Tensor of_layer) {
                base = teacher->add_hidden_loss(to, taught, layer, of_layer, base);
            };
    }
    Tensor x = embedding(g, ids, model.embedding, order);
    Tensor hidden = llama_hidden(
        g, c, model, x,
        [&](Graph& to, Tensor qkv) { return rope(to, qkv, rope_values, c.heads + c.kv_heads, {.seq_len = seq_len}, qkv_type); },
        [&](Graph& to, int64_t, Tensor qkv) { return attention(to, qkv, shape, start, end); }, s.options_.recompute, layer_input);
    Tensor rows = g.external(s.rows_, 0, {tokens}, DType::f32, "loss.rows");
    Tensor gradient_scale;
    if (mode == Graph::Mode::training && s.options_.precision == Precision::f16) {
        gradient_scale = g.tensor({1}, DType::f32, "scale of the gradients");
        g.dispatch(Kernel{"loss_scale", {g.capabilities().subgroup_size}},
                   {in(scale), in(g.external(s.state_, 0, {sizeof(AdamwState) / 4}, DType::u32, "state")), out(gradient_scale)},
                   LossScaleArgs{}, Grid{}, "loss_scale");
    }
    if (teacher)
        teacher->add_loss(g, taught,
                          {.hidden = hidden, .head = model.head, .labels = labels, .base = base, .sum = loss, .entropy = rows});
    else
        head_loss(
            g, hidden, model.head, labels, scale,
            {.gradient_scale = gradient_scale, .chunk_rows = s.options_.chunk_rows, .base = base, .sum = loss, .rows = rows});
    if (mode == Graph::Mode::training) g.backward(hidden, g.gradient(hidden));
    return graph;
}

std::unique_ptr<Graph> TrainingStep::Graphs::prepare_graph(TrainingStep& s, bool quantize, bool partly) {
    auto graph = std::make_unique<Graph>(s.device_);
    if (!quantize || s.options_.quantizer.kind == QuantizerKind::none) {
        for (auto [weights, copy] : s.parameters_.copied_stretches(*graph))
            quantize_weights(*graph, weights, copy, {}, {}, "weights");
        return graph;
    }
    int64_t table = s.options_.quantizer.centroids();
    size_t layer = 0;
    for (size_t i = 0; i < s.parameters_.parameters().size(); i++) {
        const Parameter& p = s.parameters_.parameters()[i];
        if (!s.parameters_.has_copy(i)) continue;
        QuantizerConfig config = s.options_.quantizer;
        Tensor centroids;
        if (!p.quantized) config = {};
        if (p.quantized && table > 0)
            centroids =
                graph->external(s.centroids_, layer * uint64_t(table) * 4, {table}, DType::f32, p.layer_name() + ".centroids");
        if (p.quantized) layer++;
        Tensor weight = s.parameters_.master(*graph, i), used = s.parameters_.compute(*graph, i);
        quantize_weights(*graph, weight, used, config, centroids, p.layer_name());
        if (partly && p.quantized)
            blend_weights(*graph, weight, used, graph->external(s.strength_, 0, {1}, DType::f32, "strength of quantization"),
                          p.layer_name());
    }
    return graph;
}

std::unique_ptr<Graph> TrainingStep::Graphs::fit_graph(TrainingStep& s, bool fisher) {
    auto graph = std::make_unique<Graph>(s.device_);
    int64_t table = s.options_.quantizer.centroids();
    Tensor scalars = graph->external(s.scalars_, 0, {sizeof(KmeansScalars) / 4}, DType::u32, "k-means scalars");
    for (size_t layer = 0; layer < s.quantized_layers_.size(); layer++) {
        size_t i = s.quantized_layers_[layer];
        Tensor centroids = graph->external(s.centroids_, layer * uint64_t(table) * 4, {table}, DType::f32, "centroids");
        Tensor moment = fisher ? s.parameters_.second_moment(*graph, i) : Tensor();
        vkqat::fit_centroids(*graph, s.parameters_.master(*graph, i), s.options_.quantizer, centroids, moment, scalars,
                             s.parameters_.parameters()[i].layer_name());
    }
    return graph;
}

std::unique_ptr<Graph> TrainingStep::Graphs::update_graph(TrainingStep& s) {
    auto graph = std::make_unique<Graph>(s.device_);
    Tensor loss = graph->external(s.loss_, 0, {1}, DType::f32, "loss");
    Tensor settings = graph->external(s.settings_, 0, {sizeof(AdamwSettings) / 4}, DType::u32, "settings");
    Tensor state = graph->external(s.state_, 0, {sizeof(AdamwState) / 4}, DType::u32, "state");
    auto blocks = s.parameters_.optimizer_blocks(*graph);
    if (!s.squares_) {
        adamw(*graph, std::move(blocks), loss, settings, state);
        return graph;
    }
    auto partial = [&](Graph& g) { return g.external(s.squares_, 0, {s.parameters_.squares()}, DType::f32, "partial squares"); };
    squares_graph = std::make_unique<Graph>(s.device_);
    gradient_squares(*squares_graph, s.parameters_.optimizer_blocks(*squares_graph), partial(*squares_graph));
    adamw_update(*graph, blocks, partial(*graph), loss, settings, state);
    return graph;
}

// From gradients of q(W) to those of W, for quantizers where they differ: behind the last micro-step.
std::unique_ptr<Graph> TrainingStep::Graphs::quantizer_graph(TrainingStep& s) {
    auto graph = std::make_unique<Graph>(s.device_);
    for (size_t i : s.quantized_layers_)
        quantizer_gradient(*graph, s.parameters_.master(*graph, i), s.parameters_.gradient(*graph, i), s.options_.quantizer,
                           s.parameters_.parameters()[i].layer_name());
    return graph;
}

TrainingStep::Graphs::Graphs(TrainingStep& s) {
    first_graph = model_graph(s, Graph::Mode::training, false);
    next_graph = model_graph(s, Graph::Mode::training, true);
    evaluate_graph = model_graph(s, Graph::Mode::inference, false);
    full_graph = prepare_graph(s, false);
    quantized_graph = prepare_graph(s, true);
    if (s.options_.gradual) partly_graph = prepare_graph(s, true, true);
    update_graph_ = update_graph(s);
    if (s.options_.quantizer.has_gradient()) quantizer_graph_ = quantizer_graph(s);
    if (s.centroids_) fit_graph_ = fit_graph(s, s.options_.fisher);
    if (s.centroids_ && s.options_.fisher) first_fit_graph = fit_graph(s, false);
    // They never run at the same time: one arena for all.
    uint64_t block = Arena::block_bytes(s.device_);
    for (const Graph* g :
         {first_graph.get(), next_graph.get(), evaluate_graph.get(), full_graph.get(), quantized_graph.get(), update_graph_.get(),
          fit_graph_.get(), first_fit_graph.get(), quantizer_graph_.get(), partly_graph.get()})
        if (g) arena_bytes = std::max(arena_bytes, plan(*g, block).arena_bytes);
    const uint64_t limit = s.options_.activation_limit ? s.options_.activation_limit : s.device_.free_memory();
    if (arena_bytes > limit)
        fail("too little memory on {}: {:.2f} GB for the activations of {} x {} tokens, {:.2f} GB free; {}",
             s.device_.capabilities().name, double(arena_bytes) / 1e9, s.options_.batch, s.options_.seq_len, double(limit) / 1e9,
             what_fits(s, limit));
    auto arena = std::make_shared<Arena>(s.device_, arena_bytes, "activations");
    auto record = [&](const std::unique_ptr<Graph>& g, const char* name, const std::vector<size_t>& cuts = {}) {
        return g ? std::make_unique<Executable>(*g, name, arena, cuts) : nullptr;
    };
    if (s.options_.ranks && s.options_.ranks->size() > 1) {
        ExchangeOptions options = s.options_.exchange;
        options.embedding = s.parameters_.sparse_embedding();
        exchange = std::make_unique<GradientExchange>(s.device_, *s.options_.ranks, s.parameters_.gradient_blocks(), options);
        first_schedule = exchange->schedule(*first_graph);
        next_schedule = exchange->schedule(*next_graph);
    }
    first = record(first_graph, "forward and backward", first_schedule.cuts);
    next = record(next_graph, "forward and backward, accumulating", next_schedule.cuts);
    evaluate = record(evaluate_graph, "evaluation");
    prepare_full = record(full_graph, "weights");
    prepare_quantized = record(quantized_graph, "quantized weights");
    squares = record(squares_graph, "gradient norm");
    update = record(update_graph_, "update");
    prepare_partly = record(partly_graph, "partly quantized weights");
    quantizer_gradients = record(quantizer_graph_, "gradients of the quantizer");
    fit = record(fit_graph_, "k-means");
    first_fit = record(first_fit_graph, "first k-means");
}

// The first setting that would fit, in the words of a configuration: more is computed again, then fewer windows at a time.
std::string TrainingStep::Graphs::what_fits(TrainingStep& s, uint64_t limit) {
    const TrainingStepOptions given = s.options_;
    for (int64_t batch = given.batch; batch >= 1; batch /= 2)
        for (Recompute mode : {Recompute::none, Recompute::selective, Recompute::full}) {
            if (mode < given.recompute || (batch == given.batch && mode == given.recompute)) continue;
            s.options_.batch = batch;
            s.options_.recompute = mode;
            const uint64_t bytes = plan(*model_graph(s, Graph::Mode::training, false), Arena::block_bytes(s.device_)).arena_bytes;
            s.options_ = given;
            if (bytes > limit) continue;
            std::vector<std::string> settings;
            if (mode != given.recompute)
                settings.push_back(fmt::format("activation_checkpoint.mode = \"{}\"", recompute_names[size_t(mode)]));
            if (batch != given.batch) settings.push_back(fmt::format("training.local_batch_size = {}", batch));
            return fmt::format("this fits: {} ({:.2f} GB)", fmt::join(settings, " and "), double(bytes) / 1e9);
        }
    return "choose a smaller model, shorter windows (training.seq_len) or another device";
}

void TrainingStep::fill_inputs(const Batch& batch, double scale) {
    if (batch.batch != options_.batch || batch.seq_len != options_.seq_len)
        fail("a batch of {} x {} was given, the graph is built for {} x {}", batch.batch, batch.seq_len, options_.batch,
             options_.seq_len);
    device_.wait_idle();  // the inputs of the step before must not change under it
    fill(ids_, batch.ids);
    fill(labels_, batch.labels);
    fill(document_start_, batch.document_start);
    fill(document_end_, batch.document_end);
    fill(order_, sort_by_id(batch.ids));
    *static_cast<float*>(scale_.mapped()) = float(scale);
}

int64_t TrainingStep::label_count(std::span<const Batch> batches) const {
    int64_t labels = 0;
    for (const Batch& b : batches)
        labels += std::count_if(b.labels.begin(), b.labels.end(), [](int32_t label) { return label >= 0; });
    return labels;
}

void TrainingStep::submit(Executable& recording) {
    if (profile_sink_)
        profile_sink_(recording.name(), recording.profile());
    else
        recording.replay();
}

void TrainingStep::prepare() {
    submit(partly_ ? *graphs_->prepare_partly : quantized_ ? *graphs_->prepare_quantized : *graphs_->prepare_full);
}

void TrainingStep::fit_centroids(int64_t step) {
    if (!graphs_->fit) return;
    device_.wait_idle();
    AdamwState now = state();
    KmeansScalars scalars{};
    scalars.second_moment_correction = now.beta2_power < 1 ? 1 / (1 - now.beta2_power) : 1;
    scalars.seed = uint32_t(options_.seed * 0x9e3779b9u + uint64_t(step));
    std::memcpy(scalars_.mapped(), &scalars, sizeof scalars);
    // Before the first update the second moment is 0 and cannot weigh anything.
    submit(graphs_->first_fit && now.step == 0 ? *graphs_->first_fit : *graphs_->fit);
}

void TrainingStep::run(std::span<const Batch> batches, double learning_rate) {
    GradientExchange* exchange = graphs_->exchange.get();
    int64_t labels = label_count(batches);
    if (exchange) labels = options_.ranks->sum(labels);
    double scale = 1 / double(std::max<int64_t>(labels, 1));
    std::vector<int32_t> ids;
    if (exchange)
        for (const Batch& b : batches) ids.insert(ids.end(), b.ids.begin(), b.ids.end());
    if (options_.teacher) {
        device_.wait_idle();
        const int64_t sequences = int64_t(batches.size()) * options_.batch * (exchange ? options_.ranks->size() : 1);
        options_.teacher->set_scales(labels, sequences, options_.seq_len);
    }
    for (size_t i = 0; i < batches.size(); i++) {
        fill_inputs(batches[i], scale);
        if (options_.teacher) options_.teacher->fill(batches[i]);
        if (i == 0) {
            AdamwSettings settings{float(learning_rate), float(options_.beta1),        float(options_.beta2),
                                   float(options_.eps),  float(options_.weight_decay), float(options_.max_norm)};
            std::memcpy(settings_.mapped(), &settings, sizeof settings);
            prepare();
        }
        Executable& micro_step = i == 0 ? *graphs_->first : *graphs_->next;
        if (exchange && i + 1 == batches.size())
            exchange->run(micro_step, i == 0 ? graphs_->first_schedule : graphs_->next_schedule, ids);
        else
            submit(micro_step);
    }
    if (exchange) {
        float loss = *loss_.mapped_as<float>().data();
        options_.ranks->all_reduce_sum(std::span(&loss, 1));
        *loss_.mapped_as<float>().data() = loss;
    }
    if (quantized_ && graphs_->quantizer_gradients) submit(*graphs_->quantizer_gradients);
    if (!squares_) {
        submit(*graphs_->update);
        return;
    }
    // ZeRO-1: a rank has the sums of its parts only, and updates the weights there.
    std::vector<float> squares(size_t(parameters_.squares()), 0);
    const auto bytes = std::as_writable_bytes(std::span(squares));
    device_.upload(squares_, 0, bytes);
    graphs_->squares->run();
    device_.download(squares_, 0, bytes);
    options_.ranks->all_reduce_sum(std::span(squares));  // exact: all but one are 0
    device_.upload(squares_, 0, bytes);
    exchange->gather_parts(parameters_.weight_blocks(), graphs_->update->replay());
}

std::pair<double, int64_t> TrainingStep::evaluate(const Batch& batch) {
    fill_inputs(batch, 1);
    graphs_->evaluate->run();
    std::vector<float> rows(size_t(options_.batch * options_.seq_len));
    device_.download(rows_, 0, std::as_writable_bytes(std::span(rows)));
    return {std::accumulate(rows.begin(), rows.end(), 0.0), label_count({&batch, 1})};
}

AdamwState TrainingStep::state() const {
    AdamwState state;
    device_.download(state_, 0, std::as_writable_bytes(std::span(&state, 1)));
    return state;
}

void TrainingStep::restore_state(const AdamwState& state) {
    AdamwState s = state;  // perhaps of a run in another precision
    constexpr float first_loss_scale = 65536;
    if (options_.precision != Precision::f16)
        s.loss_scale = 0;
    else if (s.loss_scale <= 0)
        s.loss_scale = first_loss_scale;
    device_.upload(state_, 0, std::as_bytes(std::span(&s, 1)));
}

std::vector<float> TrainingStep::centroids(size_t layer) const {
    std::vector<float> values(size_t(options_.quantizer.centroids()));
    if (!values.empty()) device_.download(centroids_, layer * values.size() * 4, std::as_writable_bytes(std::span(values)));
    return values;
}

void TrainingStep::set_centroids(size_t layer, std::span<const float> values) {
    if (int64_t(values.size()) != options_.quantizer.centroids())
        fail("{} centroids were given, the quantizer has {}", values.size(), options_.quantizer.centroids());
    device_.upload(centroids_, layer * values.size() * 4, std::as_bytes(values));
}

std::vector<ProfileRow> TrainingStep::profile() {
    std::vector<ProfileRow> rows;
    for (Executable* e :
         {(quantized_ ? graphs_->prepare_quantized : graphs_->prepare_full).get(), graphs_->first.get(), graphs_->update.get()}) {
        auto part = e->profile();
        rows.insert(rows.end(), part.begin(), part.end());
    }
    return rows;
}

uint64_t TrainingStep::activation_bytes() const { return graphs_->arena_bytes; }

double TrainingStep::exposed_exchange_seconds() const { return graphs_->exchange ? graphs_->exchange->exposed_seconds() : 0; }

std::string TrainingStep::exchange_text() const {
    if (!graphs_->exchange) return "";
    return fmt::format("{} buckets through {}", graphs_->exchange->buckets(), graphs_->exchange->way());
}

}  // namespace vkqat

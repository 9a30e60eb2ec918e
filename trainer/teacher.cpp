#include "trainer/teacher.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/attention.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/matmul.h"
#include "runtime/ops/rope.h"
#include "runtime/support/clock.h"

namespace vkqat {

Teacher::Teacher(Device& device, const std::filesystem::path& model, const LlamaConfig& student, const TeacherOptions& options,
                 int64_t seq_len)
    : device_(device), weights_(std::make_unique<LlamaWeights>(device, model)), options_(options), seq_len_(seq_len) {
    const LlamaConfig& c = weights_->config();
    if (c.vocab_size != student.vocab_size)
        fail("{}: the teacher's vocabulary has {} tokens, the student's {}: they must be the same", model.string(), c.vocab_size,
             student.vocab_size);
    if (options.hidden_weight > 0 && (c.layers != student.layers || c.hidden_size != student.hidden_size))
        fail(
            "{}: hidden states can only be compared between models of equal layers and width: the teacher has {} of {}, the "
            "student "
            "{} of {}",
            model.string(), c.layers, c.hidden_size, student.layers, student.hidden_size);
    rope_ = upload_rope_table(device, c, seq_len);
    factors_ = device.allocate_host(16, "scales of the distillation");
    set_scales(1, 1, seq_len);
}

Teacher::Teacher(Device& device, std::shared_ptr<TeacherCache> cache, const TeacherOptions& options, int64_t batch)
    : device_(device), cache_(std::move(cache)), options_(options), seq_len_(cache_->key().seq_len), tokens_(batch * seq_len_) {
    if (options.hidden_weight > 0)
        fail(
            "distillation.cache: a teacher's hidden states are not kept there; choose distillation.hidden_weight = 0, or no "
            "cache");
    const uint64_t bytes = uint64_t(tokens_) * 4, k = uint64_t(cache_->key().top_k);
    for (Buffer* b : {&top_ids_, &top_values_}) *b = device.allocate_host(bytes * k, "the teacher's logits");
    for (Buffer* b : {&top_norm_, &top_loss_, &top_confidence_}) *b = device.allocate_host(bytes, "the teacher's losses");
    factors_ = device.allocate_host(16, "scales of the distillation");
    set_scales(1, 1, seq_len_);
}

void Teacher::read(Batch& batch) const {
    if (cache_) batch.teacher = std::make_shared<const TeacherRows>(cache_->read(batch));
}

void Teacher::fill(const Batch& batch) {
    if (!cache_) return;
    const std::shared_ptr<const TeacherRows> read =
        batch.teacher ? batch.teacher : std::make_shared<const TeacherRows>(cache_->read(batch));
    const TeacherRows& rows = *read;
    auto put = [](const Buffer& to, const auto& values) {
        if (to.bytes() != values.size() * 4) fail("the teacher's logits of {} rows do not fit the batch", values.size());
        std::memcpy(to.mapped(), values.data(), values.size() * 4);
    };
    put(top_ids_, rows.ids);
    put(top_values_, rows.values);
    put(top_norm_, rows.norm);
    put(top_loss_, rows.loss);
    put(top_confidence_, rows.confidence);
}

TeacherTensors Teacher::forward(Graph& g, Tensor ids, Tensor document_start, Tensor document_end) const {
    if (cache_) {
        const int64_t k = cache_->key().top_k;
        auto input = [&](const Buffer& b, const Shape& shape, DType type, const char* name) {
            return g.external(b, 0, shape, type, name);
        };
        const int64_t tokens = ids.elements();  // fewer where what would fit is looked for
        if (tokens > tokens_) fail("the teacher's logits are for batches of {} tokens, not {}", tokens_, tokens);
        return {.hidden = {},
                .head = {},
                .top = {.ids = input(top_ids_, {tokens, k}, DType::i32, "teacher.ids"),
                        .values = input(top_values_, {tokens, k}, DType::f32, "teacher.values"),
                        .norm = input(top_norm_, {tokens}, DType::f32, "teacher.norm"),
                        .loss = input(top_loss_, {tokens}, DType::f32, "teacher.loss"),
                        .confidence = input(top_confidence_, {tokens}, DType::f32, "teacher.confidence")},
                .layer_inputs = {}};
    }
    const LlamaConfig& c = weights_->config();
    const int64_t batch = ids.elements() / seq_len_;
    LlamaTensors model = weights_->tensors(g);
    Tensor table = g.external(rope_, 0, {seq_len_, c.head_dim}, DType::f32, "teacher.rope");
    const AttentionShape shape{uint32_t(batch), uint32_t(seq_len_), uint32_t(c.heads), uint32_t(c.kv_heads),
                               uint32_t(c.head_dim)};
    TeacherTensors result{.hidden = {}, .head = model.head, .top = {}, .layer_inputs = {}};
    LayerInput keep;
    if (options_.hidden_weight > 0) keep = [&](Graph&, int64_t, Tensor x) { result.layer_inputs.push_back(x); };
    result.hidden = llama_hidden(
        g, c, model, embedding(g, ids, model.embedding),
        [&](Graph& to, Tensor qkv) { return rope(to, qkv, table, c.heads + c.kv_heads, {.seq_len = seq_len_}); },
        [&](Graph& to, int64_t, Tensor qkv) { return attention(to, qkv, shape, document_start, document_end); }, Recompute::none,
        keep);
    return result;
}

Tensor Teacher::add_hidden_loss(Graph& g, const TeacherTensors& teacher, int64_t layer, Tensor x, Tensor base) const {
    Tensor sum = g.tensor({1}, DType::f32, "loss.hidden");
    hidden_distance(g, x, teacher.layer_inputs.at(size_t(layer)),
                    g.external(factors_, 12, {1}, DType::f32, "scale of hidden states"), base, sum);
    return sum;
}

void Teacher::add_loss(Graph& g, const TeacherTensors& teacher, DistillationHead head) const {
    head.teacher_hidden = teacher.hidden;
    head.teacher_head = teacher.head;
    head.teacher_top = teacher.top;
    head.factors = g.external(factors_, 0, {3}, DType::f32, "scales of the distillation");
    head.seq_len = seq_len_;
    // Twice the logits of cross-entropy alone: half its rows.
    head.chunk_rows = std::clamp<int64_t>((int64_t(1) << 27) / head.head.rows() / 128 * 128, 128, 4096);
    distillation_head(g, options_.loss, head);
}

void Teacher::set_scales(int64_t labels, int64_t sequences, int64_t seq_len) {
    const bool by_sequence = options_.per_sequence || options_.loss == DistillationLoss::tlsd;
    const double all = double(std::max<int64_t>(labels, 1)), rows = double(std::max<int64_t>(sequences, 1));
    const float factors[4] = {float(options_.weight / (by_sequence ? rows : all)), float(options_.label_weight / all),
                              distillation_coefficient(options_.loss, float(options_.coefficient)),
                              float(options_.hidden_weight / (rows * double(seq_len)))};
    std::memcpy(factors_.mapped(), factors, sizeof factors);
}

double Teacher::confidence(const std::vector<Batch>& batches) const {
    if (batches.empty()) fail("the teacher's confidence needs some text");
    if (cache_) {
        double sum = 0;
        int64_t count = 0;
        for (const Batch& batch : batches) {
            for (float v : cache_->read(batch).confidence) sum += double(v);
            count += std::count_if(batch.labels.begin(), batch.labels.end(), [](int32_t label) { return label >= 0; });
        }
        if (count == 0) fail("the teacher's confidence needs text with labels");
        return sum / double(count);
    }
    const Batch& first = batches[0];
    const int64_t tokens = first.batch * first.seq_len;
    Buffer ids = device_.allocate(uint64_t(tokens) * 4, "ids"), start = device_.allocate(ids.bytes(), "document_start");
    Buffer end = device_.allocate(ids.bytes(), "document_end"), labels = device_.allocate(ids.bytes(), "labels");
    Buffer result = device_.allocate(ids.bytes(), "confidence");
    Graph g(device_);
    g.set_precision(inference_precision(device_.capabilities(), weights_->tensors(g)));
    auto input = [&](const Buffer& b, const Shape& shape, const char* name) { return g.external(b, 0, shape, DType::i32, name); };
    const Shape rows{first.batch, first.seq_len};
    const TeacherTensors teacher =
        forward(g, input(ids, {tokens}, "ids"), input(start, rows, "document_start"), input(end, rows, "document_end"));
    add_loss(g, teacher,
             {.hidden = teacher.hidden,
              .head = teacher.head,
              .labels = input(labels, {tokens}, "labels"),
              .confidence = g.external(result, 0, {tokens}, DType::f32, "confidence")});
    Executable executable(g, "teacher's confidence");
    double sum = 0;
    int64_t count = 0;
    for (const Batch& batch : batches) {
        if (batch.batch != first.batch || batch.seq_len != first.seq_len) fail("batches for the teacher must have one shape");
        device_.upload(ids, 0, std::as_bytes(std::span(batch.ids)));
        device_.upload(labels, 0, std::as_bytes(std::span(batch.labels)));
        device_.upload(start, 0, std::as_bytes(std::span(batch.document_start)));
        device_.upload(end, 0, std::as_bytes(std::span(batch.document_end)));
        executable.run();
        std::vector<float> values(static_cast<size_t>(tokens));
        device_.download(result, 0, std::as_writable_bytes(std::span(values)));
        for (float v : values) sum += double(v);
        count += std::count_if(batch.labels.begin(), batch.labels.end(), [](int32_t label) { return label >= 0; });
    }
    if (count == 0) fail("the teacher's confidence needs text with labels");
    return sum / double(count);
}

namespace {

// A teacher's largest logits of one batch after the other.
class TopLogitsOf {
public:
    TopLogitsOf(Device& device, const Teacher& teacher, int64_t batch, int64_t seq_len, int64_t k, Precision precision)
        : device_(device), tokens_(batch * seq_len), k_(k), graph_(device) {
        const uint64_t bytes = uint64_t(tokens_) * 4;
        for (Buffer* b : {&ids_, &labels_, &start_, &end_}) *b = device.allocate(bytes, "training batch");
        for (Buffer* b : {&top_ids_, &top_values_}) *b = device.allocate(bytes * uint64_t(k), "the largest logits");
        for (Buffer* b : {&norm_, &loss_, &confidence_}) *b = device.allocate(bytes, "losses of the teacher");
        Graph& g = graph_;
        g.set_precision(precision);
        auto input = [&](const Buffer& b, const Shape& shape, const char* name) {
            return g.external(b, 0, shape, DType::i32, name);
        };
        const Shape documents{batch, seq_len};
        const TeacherTensors said = teacher.forward(g, input(ids_, {tokens_}, "ids"), input(start_, documents, "document_start"),
                                                    input(end_, documents, "document_end"));
        const int64_t vocab = said.head.rows(), dim = said.hidden.cols();
        const int64_t chunk = std::clamp<int64_t>((int64_t(1) << 28) / vocab / 128 * 128, 128, 4096);
        for (int64_t begin = 0; begin < tokens_; begin += chunk) {
            const int64_t rows = std::min(chunk, tokens_ - begin);
            Tensor logits = g.tensor({rows, vocab}, DType::f32, "teacher.logits");
            Tensor hidden = g.view(said.hidden, uint64_t(begin * dim) * bytes_of(said.hidden), {rows, dim}, "hidden");
            matmul(g, Product::nt, hidden, said.head, {}, logits, "teacher.head");
            auto part = [&](const Buffer& b, int64_t cols, DType type, const char* name) {
                return g.external(b, uint64_t(begin * cols) * 4,
                                  cols > 1 || &b == &top_ids_ || &b == &top_values_ ? Shape{rows, cols} : Shape{rows}, type,
                                  name);
            };
            top_logits(g, logits, part(labels_, 1, DType::i32, "labels"),
                       {.ids = part(top_ids_, k, DType::i32, "teacher.ids"),
                        .values = part(top_values_, k, DType::f32, "teacher.values"),
                        .norm = part(norm_, 1, DType::f32, "teacher.norm"),
                        .loss = part(loss_, 1, DType::f32, "teacher.loss"),
                        .confidence = part(confidence_, 1, DType::f32, "teacher.confidence")});
        }
        executable_ = std::make_unique<Executable>(g, "the teacher's logits");
    }

    TeacherRows read(const Batch& batch) {
        for (auto [buffer, values] : {std::pair{&ids_, &batch.ids},
                                      {&labels_, &batch.labels},
                                      {&start_, &batch.document_start},
                                      {&end_, &batch.document_end}})
            device_.upload(*buffer, 0, std::as_bytes(std::span(*values)));
        executable_->run();
        const auto rows = size_t(tokens_), all = rows * size_t(k_);
        TeacherRows r{std::vector<int32_t>(all), std::vector<float>(all), std::vector<float>(rows), std::vector<float>(rows),
                      std::vector<float>(rows)};
        device_.download(top_ids_, 0, std::as_writable_bytes(std::span(r.ids)));
        for (auto [buffer, values] :
             {std::pair{&top_values_, &r.values}, {&norm_, &r.norm}, {&loss_, &r.loss}, {&confidence_, &r.confidence}})
            device_.download(*buffer, 0, std::as_writable_bytes(std::span(*values)));
        return r;
    }

private:
    static uint64_t bytes_of(Tensor t) { return vkqat::bytes(t.dtype()); }
    Device& device_;
    int64_t tokens_, k_;
    Graph graph_;
    Buffer ids_, labels_, start_, end_, top_ids_, top_values_, norm_, loss_, confidence_;
    std::unique_ptr<Executable> executable_;
};

}  // namespace

void fill_teacher_cache(Device& device, const std::filesystem::path& model, const LlamaConfig& student, TeacherCache& cache,
                        BatchSource& source, int64_t batch, uint64_t windows, Precision precision,
                        const std::function<void(const std::string&)>& line, const std::function<bool()>& stop) {
    constexpr uint64_t of_file = TeacherCache::file_windows;
    if (batch < 1 || of_file % uint64_t(batch)) fail("batches of {} windows do not fill files of {}", batch, of_file);
    const uint64_t files = (windows + of_file - 1) / of_file;
    uint64_t missing = 0, done = 0;
    for (uint64_t file = 0; file < files; file++) missing += !cache.has(file);
    if (missing == 0) return;
    const TeacherCacheKey& key = cache.key();
    Teacher teacher(device, model, student, {}, key.seq_len);
    TopLogitsOf top(device, teacher, batch, key.seq_len, key.top_k, precision);
    if (line)
        line(fmt::format(
            "teacher     writes its {} largest logits of {} windows, {:.1f} MB", key.top_k, missing * of_file,
            double(missing * of_file) * double(key.seq_len) * double(key.top_k * (key.vocabulary <= 65536 ? 6 : 8)) / 1e6));
    Clock::time_point said = Clock::now();
    for (uint64_t file = 0; file < files; file++) {
        const bool known = cache.has(file);
        TeacherRows rows;
        std::vector<uint32_t> data;
        for (uint64_t at = 0; at < of_file; at += uint64_t(batch)) {
            if (!known && stop && stop())
                fail("stopped while the teacher wrote its logits, {} of {} windows; the same command goes on from there",
                     done * of_file, missing * of_file);
            const Batch next = source.next();
            if (known) continue;
            for (int64_t row = 0; row < batch; row++) data.push_back(window_checksum(next, row));
            rows.append(top.read(next));
        }
        if (known) continue;
        cache.write(file, rows, data);
        done++;
        if (line && seconds_since(said) > 10) {
            line(fmt::format("teacher     {:.0f} % of its logits are written", 100 * double(done) / double(missing)));
            said = Clock::now();
        }
    }
}

}  // namespace vkqat

#include "trainer/teacher.h"

#include <algorithm>
#include <cstring>

#include "runtime/ops/attention.h"
#include "runtime/ops/embedding.h"
#include "runtime/ops/rope.h"

namespace vkqat {

Teacher::Teacher(Device& device, const std::filesystem::path& model, const LlamaConfig& student, const TeacherOptions& options,
                 int64_t seq_len)
    : device_(device), weights_(device, model), options_(options), seq_len_(seq_len) {
    const LlamaConfig& c = weights_.config();
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

TeacherTensors Teacher::forward(Graph& g, Tensor ids, Tensor document_start, Tensor document_end) const {
    const LlamaConfig& c = weights_.config();
    const int64_t batch = ids.elements() / seq_len_;
    LlamaTensors model = weights_.tensors(g);
    Tensor table = g.external(rope_, 0, {seq_len_, c.head_dim}, DType::f32, "teacher.rope");
    const AttentionShape shape{uint32_t(batch), uint32_t(seq_len_), uint32_t(c.heads), uint32_t(c.kv_heads),
                               uint32_t(c.head_dim)};
    TeacherTensors result{.hidden = {}, .head = model.head, .layer_inputs = {}};
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
    head.factors = g.external(factors_, 0, {3}, DType::f32, "scales of the distillation");
    head.seq_len = seq_len_;
    // Twice the logits of cross-entropy alone: half its rows.
    head.chunk_rows = std::clamp<int64_t>((int64_t(1) << 27) / teacher.head.rows() / 128 * 128, 128, 4096);
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
    const Batch& first = batches[0];
    const int64_t tokens = first.batch * first.seq_len;
    Buffer ids = device_.allocate(uint64_t(tokens) * 4, "ids"), start = device_.allocate(ids.bytes(), "document_start");
    Buffer end = device_.allocate(ids.bytes(), "document_end"), labels = device_.allocate(ids.bytes(), "labels");
    Buffer result = device_.allocate(ids.bytes(), "confidence");
    Graph g(device_);
    g.set_precision(inference_precision(device_.capabilities(), weights_.tensors(g)));
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

}  // namespace vkqat

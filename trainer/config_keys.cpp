#include "trainer/config_keys.h"

#include <algorithm>
#include <cmath>

#include "runtime/support/error.h"
#include "trainer/flavors.h"

namespace vkqat {
namespace {

Allowed anything() { return {}; }
Allowed at_least(double low) { return {.low = low}; }
Allowed above(double low) { return {.low = low, .without_low = true}; }
Allowed between(double low, double high) { return {.low = low, .high = high}; }
Allowed below(double low, double high) { return {.low = low, .high = high, .without_high = true}; }  // low included
Allowed one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }

Allowed a_flavor() {
    Allowed allowed;
    for (const Flavor& flavor : flavors()) allowed.choices.emplace_back(flavor.name);
    allowed.choices.emplace_back("");
    return allowed;
}

// A TOML basic string.
std::string toml_string(std::string_view text) {
    std::string result = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') {
            result += {'\\', c};
        } else if (uint8_t(c) < 0x20 || c == 0x7f) {
            result += fmt::format("\\u{:04X}", uint8_t(c));
        } else {
            result += c;
        }
    }
    return result + "\"";
}

std::string to_text(bool value) { return value ? "true" : "false"; }
std::string to_text(int64_t value) { return fmt::format("{}", value); }
std::string to_text(double value) {
    std::string text = fmt::format("{}", value);  // the shortest that reads back equal
    if (std::isfinite(value) && text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}
std::string to_text(const std::string& value) { return toml_string(value); }
std::string to_text(const std::vector<std::string>& values) {
    std::string text = "[";
    for (const std::string& value : values) text += (text.size() > 1 ? ", " : "") + toml_string(value);
    return text + "]";
}

std::string to_text(const std::vector<int64_t>& values) { return fmt::format("[{}]", fmt::join(values, ", ")); }
std::string to_text(const std::vector<DatasetConfig>& values) {
    std::string text = "[";
    for (const DatasetConfig& value : values)
        text +=
            fmt::format("{}{{path = {}, weight = {}}}", text.size() > 1 ? ", " : "", to_text(value.path), to_text(value.weight));
    return text + "]";
}

std::string join_choices(const std::vector<std::string>& choices) {
    std::string text;
    for (size_t i = 0; i < choices.size(); ++i) {
        if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
        text += choices[i].empty() ? "\"\"" : choices[i];
    }
    return text;
}

bool is_allowed(const Allowed& a, const std::string& text) {
    return a.choices.empty() || std::find(a.choices.begin(), a.choices.end(), text) != a.choices.end();
}
bool is_allowed(const Allowed& a, double value) {
    return std::isfinite(value) && (a.without_low ? value > a.low : value >= a.low) &&
           (a.without_high ? value < a.high : value <= a.high);
}
bool is_allowed(const Allowed& a, int64_t value) {
    return a.choices.empty() ? is_allowed(a, double(value)) : is_allowed(a, std::to_string(value));
}
bool is_allowed(const Allowed&, bool) { return true; }
bool is_allowed(const Allowed&, const std::vector<std::string>&) { return true; }
bool is_allowed(const Allowed& a, const std::vector<int64_t>& values) {
    return std::all_of(values.begin(), values.end(), [&](int64_t value) { return is_allowed(a, value); });
}
bool is_allowed(const Allowed&, const std::vector<DatasetConfig>& values) {
    return std::all_of(values.begin(), values.end(), [](const DatasetConfig& d) {
        return !d.path.empty() && std::isfinite(d.weight) && d.weight > 0 && d.weight <= 1e9;
    });
}

}  // namespace

std::vector<ConfigKey> config_keys(TrainConfig& c) {
    // The bounds keep every product of two sizes below 2^63.
    return {
        {"job", "dump_folder", &c.job.dump_folder, anything(), "folder for all that the run writes"},
        {"job", "description", &c.job.description, anything(), "a line for the reader"},

        {"model", "flavor", &c.model.flavor, a_flavor(), "a known architecture; explicit dimensions override its single values"},
        {"model", "tokenizer_path", &c.model.tokenizer_path, anything(),
         "tokenizer's folder or file; \"\": that of checkpoint.initial_load_path"},
        {"model", "hidden_size", &c.model.hidden_size, between(0, 1 << 20), "width; 0 here and below: the flavor's"},
        {"model", "intermediate_size", &c.model.intermediate_size, between(0, 1 << 22), "width of the MLP"},
        {"model", "num_hidden_layers", &c.model.num_hidden_layers, between(0, 4096), "layers"},
        {"model", "num_attention_heads", &c.model.num_attention_heads, between(0, 4096), "query heads"},
        {"model", "num_key_value_heads", &c.model.num_key_value_heads, between(0, 4096),
         "key and value heads; 0 without a flavor: as many as query heads"},
        {"model", "head_dim", &c.model.head_dim, between(0, 4096), "width of a head; 0: hidden_size / num_attention_heads"},
        {"model", "vocab_size", &c.model.vocab_size, between(0, 1 << 24), "rows of the embedding; 0: as many as the tokenizer's"},
        {"model", "rope_theta", &c.model.rope_theta, between(0, 1e12), "base of the rotary embedding; 0: 500000"},
        {"model", "rms_norm_eps", &c.model.rms_norm_eps, between(0, 1), "added to a norm's mean square; 0: 1e-5"},
        {"model", "tie_word_embeddings", &c.model.tie_word_embeddings, anything(), "the LM head is the embedding"},
        {"model", "max_position_embeddings", &c.model.max_position_embeddings, between(0, 1 << 30),
         "longest context that the exported model names; 0: 8192, or seq_len if that is more"},
        {"model", "rope_scaling", &c.model.rope_scaling, one_of({"llama3", "none", ""}),
         "llama3: factor 8, low 1, high 4, original length 8192; \"\": llama3 with a flavor, otherwise none"},

        {"optimizer", "name", &c.optimizer.name, one_of({"AdamW"}), "the optimizer"},
        {"optimizer", "lr", &c.optimizer.lr, above(0), "peak learning rate"},
        {"optimizer", "beta1", &c.optimizer.beta1, below(0, 1), "decay of the first moment"},
        {"optimizer", "beta2", &c.optimizer.beta2, below(0, 1), "decay of the second moment"},
        {"optimizer", "eps", &c.optimizer.eps, above(0), "added to the root of the second moment"},
        {"optimizer", "weight_decay", &c.optimizer.weight_decay, at_least(0), "decoupled weight decay, on every parameter"},
        {"optimizer", "moments", &c.optimizer.moments, one_of({"fp32", "bf16"}),
         "type of both moments; bf16: half of their memory"},
        {"optimizer", "second_stage_weight_decay", &c.optimizer.second_stage_weight_decay, at_least(0),
         "weight decay of the second stage (lr_scheduler.second_stage)"},

        {"lr_scheduler", "warmup_steps", &c.lr_scheduler.warmup_steps, at_least(0), "steps of linear warm-up"},
        {"lr_scheduler", "decay_ratio", &c.lr_scheduler.decay_ratio, between(0, 1),
         "share of the steps, the last ones, over which the rate decays; 0: no decay"},
        {"lr_scheduler", "decay_type", &c.lr_scheduler.decay_type, one_of({"linear", "sqrt", "cosine"}), "shape of the decay"},
        {"lr_scheduler", "min_lr_factor", &c.lr_scheduler.min_lr_factor, between(0, 1), "last learning rate / peak"},
        {"lr_scheduler", "second_stage", &c.lr_scheduler.second_stage, below(0, 1),
         "share of the steps behind which a second stage begins (BitNet: 0.5); 0: none"},
        {"lr_scheduler", "second_stage_lr_factor", &c.lr_scheduler.second_stage_lr_factor, between(0, 1),
         "the second stage's learning rate / the first's"},

        {"training", "dataset", &c.training.dataset, anything(),
         "text or JSON lines, perhaps .gz or .zst: files, folders, globs"},
        {"training", "datasets", &c.training.datasets, anything(),
         "several corpora instead of dataset, as [[training.datasets]] tables: a weight is a share of the windows"},
        {"training", "dataset_separator", &c.training.dataset_separator, anything(),
         "what stands between documents of plain text; \"\": a blank line"},
        {"training", "dataset_errors", &c.training.dataset_errors, one_of({"stop", "skip"}),
         "a line that is no JSON object with a text ends the run, or is left out, counted and reported"},
        {"training", "dataset_type", &c.training.dataset_type, one_of({"text", "sft"}),
         "sft: conversations, instructions, prompts with continuations (.json, .jsonl), of which answers are learnt; also in "
         "validation"},
        {"training", "seq_len", &c.training.seq_len, between(1, 1 << 24), "tokens of a window"},
        {"training", "local_batch_size", &c.training.local_batch_size, between(1, 1 << 20),
         "windows per device (rank) at a time"},
        {"training", "global_batch_size", &c.training.global_batch_size, between(0, 1 << 24),
         "windows per step of all ranks; a multiple of local_batch_size times ranks, by accumulation; 0: equal to that"},
        {"training", "max_norm", &c.training.max_norm, at_least(0), "the gradient's norm is clipped to this; 0: not clipped"},
        {"training", "steps", &c.training.steps, at_least(1), "steps of the whole run"},
        {"training", "seed", &c.training.seed, at_least(0), "of initial weights, data order and k-means"},
        {"training", "precision", &c.training.precision, one_of({"auto", "fp32", "bf16", "fp16"}),
         "of the matrix products; auto: the fastest one that the device is sure about"},
        {"training", "max_consecutive_skips", &c.training.max_consecutive_skips, at_least(0),
         "a run with more skipped steps (loss or gradient not finite) in a row stops"},

        {"activation_checkpoint", "mode", &c.activation_checkpoint.mode, one_of({"none", "selective", "full"}),
         "computed again in the backward pass to save memory: selective: norms and SwiGLU, full: whole layers"},

        {"checkpoint", "enable", &c.checkpoint.enable, anything(), "write checkpoints"},
        {"checkpoint", "interval", &c.checkpoint.interval, at_least(1), "steps between checkpoints; the last step has one"},
        {"checkpoint", "folder", &c.checkpoint.folder, anything(), "below job.dump_folder"},
        {"checkpoint", "keep_latest_k", &c.checkpoint.keep_latest_k, at_least(0), "how many checkpoints stay; 0: all"},
        {"checkpoint", "keep_best", &c.checkpoint.keep_best, anything(),
         "write one behind every validation with the lowest loss so far, and keep it ('vkqat export --best')"},
        {"checkpoint", "async", &c.checkpoint.async, anything(),
         "write them beside the training, from a copy of weights and moments in host memory"},
        {"checkpoint", "initial_load_path", &c.checkpoint.initial_load_path, anything(),
         "a Hugging Face directory, a checkpoint or a run's dump_folder to start from; \"\": random weights"},

        {"metrics", "log_freq", &c.metrics.log_freq, at_least(1), "steps between lines of the log"},

        {"metrics", "outlier_deviations", &c.metrics.outlier_deviations, between(0, 1e6),
         "warn when loss or gradient norm lies so many robust deviations above its running median; 0: never"},
        {"metrics", "enable_tensorboard", &c.metrics.enable_tensorboard, anything(), "write event files for TensorBoard, too"},
        {"metrics", "tensorboard_folder", &c.metrics.tensorboard_folder, anything(), "below job.dump_folder"},

        {"profiling", "enable", &c.profiling.enable, anything(),
         "write traces for Perfetto (ui.perfetto.dev) of single steps, which are slower for it"},
        {"profiling", "steps", &c.profiling.steps, at_least(1), "the steps"},
        {"profiling", "folder", &c.profiling.folder, anything(), "below job.dump_folder"},

        {"validation", "enable", &c.validation.enable, anything(), "measure the loss on other text during training"},
        {"validation", "dataset", &c.validation.dataset, anything(), "as training.dataset"},
        {"validation", "dataset_separator", &c.validation.dataset_separator, anything(), "as training.dataset_separator"},
        {"validation", "freq", &c.validation.freq, at_least(1), "steps between validations"},
        {"validation", "steps", &c.validation.steps, at_least(0), "batches of one validation; 0: all there are"},

        {"sft", "chat_template", &c.sft.chat_template, anything(),
         "file of a Jinja template; \"\": the tokenizer's, else Llama 3's format"},
        {"sft", "train_on_prompts", &c.sft.train_on_prompts, anything(), "learn all tokens, not only those of answers"},

        {"quantization", "quantizer", &c.quantization.quantizer,
         one_of({"none", "nonlinear", "sym_int", "ternary", "binary", "bitnet158", "int_asym", "nf", "onebit"}),
         "nonlinear is k-means; bitnet158: ternary with one scale, 8-bit activations; onebit: signs between two trained vectors; "
         "none "
         "trains in full precision"},
        {"quantization", "target_bit_width", &c.quantization.target_bit_width, one_of({"1", "2", "3", "4", "8"}),
         "bits per weight; sym_int and int_asym have no 1, nf has 3 and 4; ternary, binary and bitnet158 take no notice"},
        {"quantization", "block_dim_1", &c.quantization.block_dim_1, between(0, 1 << 24), "rows of a block; 0: all rows"},
        {"quantization", "block_dim_2", &c.quantization.block_dim_2, between(0, 1 << 24), "columns of a block; 0: all columns"},
        {"quantization", "relative_scale", &c.quantization.relative_scale, one_of({"absmax", "absmean", "rms", "none"}),
         "a block's scale; ternary and binary need absmean"},
        {"quantization", "centroid_update_algorithm", &c.quantization.centroid_update_algorithm,
         one_of({"kmeans", "fischer_kmeans"}), "fischer_kmeans weighs by AdamW's second moment"},
        {"quantization", "buffer_update_interval", &c.quantization.buffer_update_interval, at_least(0),
         "steps between fits of the centroids; 0: they are fitted once"},
        {"quantization", "qat_start_step", &c.quantization.qat_start_step, at_least(0),
         "steps before this one train in full precision"},
        {"quantization", "ignore_names", &c.quantization.ignore_names, anything(),
         "layers that stay in full precision; \"output\" is the LM head"},
        {"quantization", "bitlinear_norm", &c.quantization.bitlinear_norm, one_of({"replace", "add", "none"}),
         "bitnet158: RMS norms without weights in front of layers: replace: where the block has none (o, down), add: everywhere, "
         "none"},
        {"quantization", "switch_on_steps", &c.quantization.switch_on_steps, at_least(0),
         "steps over which weights (and activations) go from full precision to quantized; 0: at once"},

        {"distributed", "exchange", &c.distributed.exchange, one_of({"auto", "mpi"}),
         "of gradients; auto: through memory that the ranks share, over several machines through MPI"},
        {"distributed", "bucket_mb", &c.distributed.bucket_mb, between(0.01, 4096),
         "MB of gradients that ranks (mpirun -n N vkqat train) exchange at a time"},
        {"distributed", "zero1", &c.distributed.zero1, anything(),
         "ZeRO-1: each rank keeps the moments of its share of the weights only, and updates these"},

        {"distillation", "teacher", &c.distillation.teacher, anything(),
         "model directory of the teacher; \"\": none, labels are learnt"},
        {"distillation", "loss", &c.distillation.loss, one_of({"forward", "reverse", "jsd", "tlsd", "cakld"}),
         "distance of the student's distribution from the teacher's"},
        {"distillation", "weight", &c.distillation.weight, at_least(0), "of that distance"},
        {"distillation", "label_weight", &c.distillation.label_weight, at_least(0), "of the cross-entropy of the labels"},
        {"distillation", "hidden_weight", &c.distillation.hidden_weight, at_least(0),
         "of the distance of the layers' inputs; needs a teacher of the same shape"},
        {"distillation", "coefficient", &c.distillation.coefficient, between(0, 1),
         "gamma of cakld, 0: the teacher's confidence in the first 10 batches; beta of jsd, 0: 0.5"},
        {"distillation", "reduction", &c.distillation.reduction, one_of({"token", "sequence"}),
         "mean over tokens, or over sequences of the sum over their tokens"},
        {"distillation", "cache", &c.distillation.cache, anything(),
         "folder in which the teacher writes its largest logits before the training; others with the same data read them; \"\": "
         "none"},
        {"distillation", "cache_top_k", &c.distillation.cache_top_k, between(1, 1 << 24),
         "logits of a token that are kept there"},
    };
}

std::string ConfigKey::full_name() const { return fmt::format("{}.{}", section, name); }

std::string_view type_text(const ConfigKey& key) {
    constexpr std::string_view texts[] = {"true or false",
                                          "a whole number",
                                          "a number",
                                          "a string",
                                          "a string or an array of strings",
                                          "an array of whole numbers",
                                          "an array of tables {path, weight}"};
    return texts[key.value.index()];
}

std::string allowed_text(const ConfigKey& key) {
    const Allowed& a = key.allowed;
    if (!a.choices.empty()) return join_choices(a.choices);
    if (std::holds_alternative<std::vector<DatasetConfig>*>(key.value)) return "each with a path and a weight above 0";
    const bool whole = std::holds_alternative<int64_t*>(key.value) || std::holds_alternative<std::vector<int64_t>*>(key.value);
    if (!whole && !std::holds_alternative<double*>(key.value)) return "";
    if (a.without_low) return fmt::format("above {}", a.low);
    if (a.high == Allowed::max_whole) return fmt::format("at least {}", a.low);
    if (a.without_high) return fmt::format("{} to less than {}", a.low, a.high);
    return whole ? fmt::format("{} to {}", int64_t(a.low), int64_t(a.high)) : fmt::format("{} to {}", a.low, a.high);
}

std::string value_text(const ConfigKey& key) {
    return std::visit([](const auto* value) { return to_text(*value); }, key.value);
}

void check_allowed(const ConfigKey& key, std::string_view where) {
    if (std::visit([&](const auto* value) { return is_allowed(key.allowed, *value); }, key.value)) return;
    auto whole = std::get_if<int64_t*>(&key.value);
    fail("{}: {} = {}: expected {}{}", where, key.full_name(), value_text(key), allowed_text(key),
         whole && double(**whole) > Allowed::max_whole ? ", at most 2^53" : "");
}

}  // namespace vkqat

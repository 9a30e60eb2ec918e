#include "trainer/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/support/error.h"

namespace vkqat {
namespace fs = std::filesystem;

FolderLock::FolderLock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(fd_);
        fail("{}: another training is at work in this folder", folder.string());
    }
}

FolderLock::~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
}

namespace {

bool holds_run(const TrainConfig& config) {
    const fs::path folder = config.job.dump_folder;
    std::error_code error;
    for (const fs::path& path : {folder / "config.toml", folder / "metrics.jsonl"})
        if (fs::exists(path, error)) return true;
    for (auto entry = fs::directory_iterator(config.checkpoint_folder(), error); !error && entry != fs::directory_iterator();
         entry.increment(error))
        if (entry->path().filename().string().starts_with("step-")) return true;
    return false;
}

}  // namespace

void check_dump_folder(const TrainConfig& config, bool resume) {
    const std::string& folder = config.job.dump_folder;
    if (!resume && holds_run(config))
        fail("{}: holds a run already: go on with it by --resume, or choose another folder with --job.dump_folder=...", folder);
    if (resume && !holds_run(config)) fail("{}: there is no run to resume; leave out --resume to begin one", folder);
}

void check_same_model(const LlamaConfig& now, const Checkpoint& checkpoint) {
    const LlamaConfig& then = checkpoint.model();
    auto compare = [&](const char* key, auto wanted, auto found) {
        if (wanted != found)
            fail("{}: {} is {} in the checkpoint, but {} in the configuration; a run can only be resumed with the same model",
                 checkpoint.folder().string(), key, found, wanted);
    };
    compare("hidden_size", now.hidden_size, then.hidden_size);
    compare("intermediate_size", now.intermediate_size, then.intermediate_size);
    compare("num_hidden_layers", now.layers, then.layers);
    compare("num_attention_heads", now.heads, then.heads);
    compare("num_key_value_heads", now.kv_heads, then.kv_heads);
    compare("head_dim", now.head_dim, then.head_dim);
    compare("vocab_size", now.vocab_size, then.vocab_size);
    compare("tie_word_embeddings", now.tie_word_embeddings, then.tie_word_embeddings);
    compare("rope_theta", now.rope_theta, then.rope_theta);
    compare("rms_norm_eps", now.rms_norm_eps, then.rms_norm_eps);
    compare("rope_scaling", now.rope_scaling ? "llama3" : "none", then.rope_scaling ? "llama3" : "none");
}

bool same_quantizer(const TrainConfig& first, const TrainConfig& second) {
    const QuantizationSection &a = first.quantization, &b = second.quantization;
    return a.quantizer == b.quantizer && a.target_bit_width == b.target_bit_width && a.block_dim_1 == b.block_dim_1 &&
           a.block_dim_2 == b.block_dim_2 && a.relative_scale == b.relative_scale && a.ignore_names == b.ignore_names &&
           (!quantizes_activations(first) || a.bitlinear_norm == b.bitlinear_norm);
}

void check_same_quantizer(const TrainConfig& now, const Checkpoint& checkpoint) {
    if (!checkpoint.state().quantized) return;  // it is still open how the run will be quantized
    const QuantizationSection& b = checkpoint.config().quantization;
    if (!same_quantizer(now, checkpoint.config()))
        fail(
            "{}: [quantization] differs from the configuration's, and the run is quantized already: expected {} at {} bits in "
            "blocks of {} x {} with scale {}, and the same ignore_names and bitlinear_norm",
            checkpoint.folder().string(), b.quantizer, b.target_bit_width, b.block_dim_1, b.block_dim_2, b.relative_scale);
}

}  // namespace vkqat

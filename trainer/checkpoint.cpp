#include "trainer/checkpoint.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/hash.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::string_view format_name = "vkqat checkpoint";
constexpr int format_version = 1;
constexpr const char* manifest_name = "manifest.json";
constexpr const char* config_name = "config.toml";
constexpr const char* centroids_name = "centroids.safetensors";
constexpr const char* chat_template_name = "chat_template.jinja";

struct ArrayFile {
    const char* name;
    ParameterStore::Array array;
};
constexpr ArrayFile array_files[] = {{"weights.safetensors", ParameterStore::Array::weight},
                                     {"first_moment.safetensors", ParameterStore::Array::m},
                                     {"second_moment.safetensors", ParameterStore::Array::v}};

std::string hex(uint32_t crc) { return fmt::format("{:08x}", crc); }

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// The step of a folder named step-00000200; -1 for any other name.
int64_t step_of(const fs::path& folder) {
    std::string name = folder.filename().string();
    if (!name.starts_with("step-") || name.size() < 13 || name.size() > 23) return -1;
    int64_t step = 0;
    for (char c : name.substr(5)) {
        if (c < '0' || c > '9') return -1;
        step = step * 10 + (c - '0');
    }
    return step;
}

std::string step_name(int64_t step) { return fmt::format("step-{:08}", step); }

// The folders that are named as checkpoints, newest first.
std::vector<fs::path> checkpoint_folders(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code error;
    for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator(); entry.increment(error))
        if (step_of(entry->path()) >= 0) found.push_back(entry->path());
    std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
    return found;
}

// A number that is not finite is null: the loss of a skipped step.
float number(const json& value) { return value.is_null() ? std::numeric_limits<float>::quiet_NaN() : value.get<float>(); }

json optimizer_to_json(const AdamwState& s) {
    return {{"step", s.step},
            {"skipped", s.skipped},
            {"consecutive_skipped", s.consecutive_skipped},
            {"skip", s.skip},
            {"beta1_power", s.beta1_power},
            {"beta2_power", s.beta2_power},
            {"gradient_norm", s.gradient_norm},
            {"clip", s.clip},
            {"loss", s.loss},
            {"loss_scale", s.loss_scale},
            {"steps_at_scale", s.steps_at_scale}};
}

AdamwState optimizer_from_json(const json& j) {
    AdamwState s{};
    s.step = j.at("step").get<uint32_t>();
    s.skipped = j.at("skipped").get<uint32_t>();
    s.consecutive_skipped = j.at("consecutive_skipped").get<uint32_t>();
    s.skip = j.at("skip").get<uint32_t>();
    s.beta1_power = number(j.at("beta1_power"));
    s.beta2_power = number(j.at("beta2_power"));
    s.gradient_norm = number(j.at("gradient_norm"));
    s.clip = number(j.at("clip"));
    s.loss = number(j.at("loss"));
    s.loss_scale = j.value("loss_scale", 0.f);
    s.steps_at_scale = j.value("steps_at_scale", 0u);
    return s;
}

TensorInfo tensor_info(const Parameter& p) {
    TensorInfo info{.name = p.name, .dtype = DType::f32};
    for (int d = 0; d < p.shape.rank(); d++) info.shape.push_back(p.shape[d]);
    return info;
}

// Writes a file of f32 tensors, one at a time; returns their entries of the manifest.
json write_tensor_file(const fs::path& path, const std::vector<TensorInfo>& tensors,
                       const std::function<std::span<const float>(size_t)>& values) {
    json entries = json::object();
    SafetensorsWriter writer(path, tensors);
    for (size_t i = 0; i < tensors.size(); i++) {
        auto bytes = std::as_bytes(values(i));
        writer.write(tensors[i].name, bytes);
        entries[tensors[i].name] = {{"shape", tensors[i].shape}, {"checksum", hex(checksum(bytes))}};
    }
    writer.finish();
    return entries;
}

void add_file(json& files, const fs::path& folder, const std::string& name, std::string_view content) {
    fs::create_directories((folder / name).parent_path());
    write_text_file(folder / name, content);
    files[name] = {{"bytes", content.size()}, {"checksum", hex(checksum(bytes_of(content)))}};
}

// The manifest's own checksum is that of its text without it.
std::string manifest_checksum(json manifest) {
    manifest.erase("checksum");
    return hex(checksum(bytes_of(manifest.dump())));
}

void compare(const std::string& where, std::string_view what, const std::string& expected, const std::string& found) {
    if (expected != found) fail("{}: is damaged: expected {} {}, found {}", where, what, expected, found);
}

void verify_file(const fs::path& folder, const std::string& name, const json& entry) {
    const fs::path relative = name;
    if (relative.is_absolute() || name.find("..") != std::string::npos) fail("the manifest names the file '{}'", printable(name));
    MappedFile file(folder / relative);
    compare(file.path().string(), "size", std::to_string(entry.at("bytes").get<uint64_t>()), std::to_string(file.bytes().size()));
    compare(file.path().string(), "checksum", entry.at("checksum").get<std::string>(), hex(checksum(file.bytes())));
}

void verify_tensors(const SafetensorsFile& file, const json& entries) {
    const std::string where = file.path().string();
    for (const TensorView& tensor : file.tensors())
        if (!entries.contains(tensor.name)) fail("{}: tensor '{}' is not in the manifest", where, printable(tensor.name));
    for (const auto& [name, entry] : entries.items()) {
        const TensorView& tensor = file.get(name);
        const std::string tensor_name = fmt::format("{}: tensor '{}'", where, printable(name));
        if (tensor.dtype != DType::f32) fail("{}: expected f32, found {}", tensor_name, vkqat::name(tensor.dtype));
        compare(tensor_name, "shape", shape_text(entry.at("shape").get<std::vector<int64_t>>()), shape_text(tensor.shape));
        compare(tensor_name, "checksum", entry.at("checksum").get<std::string>(), hex(checksum(tensor.bytes)));
    }
}

std::string layer_centroids(const Parameter& p) { return p.layer_name() + ".centroids"; }

// Where the arrays of a checkpoint come from. What a function returns stands until its next call.
struct ArraySource {
    const std::vector<Parameter>& parameters;
    std::function<std::span<const float>(size_t parameter, size_t array)> values;  // array: of array_files
    const std::vector<size_t>& quantized_layers;
    std::function<std::span<const float>(size_t layer)> centroids;  // empty: there are none
};

void remove_old_checkpoints(const fs::path& folder, size_t keep, int64_t best_step) {
    std::vector<fs::path> all = checkpoint_folders(folder);
    std::error_code error;
    for (size_t i = keep; keep > 0 && i < all.size(); i++) {
        if (step_of(all[i]) == best_step) continue;
        // First the name: a removal that is interrupted leaves no damaged checkpoint.
        const fs::path doomed = all[i].string() + ".tmp" + std::to_string(::getpid());
        fs::rename(all[i], doomed, error);
        if (!error) fs::remove_all(doomed, error);
    }
}

fs::path write(const fs::path& folder, const RunSettings& settings, const TrainState& state, const ArraySource& source) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder for checkpoints: {}", folder.string(), error.message());
    const fs::path path = folder / step_name(state.step);
    write_directory(path, [&](const fs::path& temporary) {
        json manifest = {{"format", format_name},
                         {"version", format_version},
                         {"step", state.step},
                         {"quantized", state.quantized},
                         {"optimizer", optimizer_to_json(state.optimizer)},
                         {"data", json::parse(data_position_to_json(state.data))},
                         {"recent", {{"loss", state.recent_losses}, {"gradient_norm", state.recent_gradient_norms}}}};
        if (state.best_step >= 0) manifest["best"] = {{"step", state.best_step}, {"loss", state.best_loss}};
        json& files = manifest["files"] = json::object();
        add_file(files, temporary, config_name, to_toml(settings.config));
        add_file(files, temporary, "config.json", to_json(settings.model));
        for (const TokenizerFile& file : tokenizer_files(settings.tokenizer))
            if (settings.chat_template.empty() || file.name != chat_template_name)
                add_file(files, temporary, "tokenizer/" + file.name, read_text_file(file.path));
        if (!settings.chat_template.empty())
            add_file(files, temporary, fmt::format("tokenizer/{}", chat_template_name), settings.chat_template);
        if (!settings.generation_config.empty()) add_file(files, temporary, "generation_config.json", settings.generation_config);

        json& tensors = manifest["tensors"] = json::object();
        std::vector<TensorInfo> infos;
        for (const Parameter& p : source.parameters) infos.push_back(tensor_info(p));
        for (size_t array = 0; array < std::size(array_files); array++)
            tensors[array_files[array].name] =
                write_tensor_file(temporary / array_files[array].name, infos, [&](size_t i) { return source.values(i, array); });
        if (state.quantized && !source.quantized_layers.empty() && !source.centroids(0).empty()) {
            infos.clear();
            for (size_t layer = 0; layer < source.quantized_layers.size(); layer++)
                infos.push_back({.name = layer_centroids(source.parameters[source.quantized_layers[layer]]),
                                 .dtype = DType::f32,
                                 .shape = {int64_t(source.centroids(layer).size())}});
            tensors[centroids_name] = write_tensor_file(temporary / centroids_name, infos, source.centroids);
        }
        manifest["checksum"] = manifest_checksum(manifest);
        write_text_file(temporary / manifest_name, manifest.dump(1) + "\n");
    });
    remove_old_checkpoints(folder, size_t(settings.config.checkpoint.keep_latest_k), state.best_step);
    return path;
}

}  // namespace

uint64_t CheckpointSnapshot::bytes(const ParameterStore& parameters) {
    uint64_t elements = 0;
    for (const Parameter& p : parameters.parameters()) elements += uint64_t(p.shape.elements());
    return elements * sizeof(float) * std::size(array_files);
}

void CheckpointSnapshot::reserve(const ParameterStore& parameters) {
    parameters_ = parameters.parameters();
    arrays_.resize(parameters_.size() * std::size(array_files));
    for (size_t i = 0; i < arrays_.size(); i++) arrays_[i].resize(size_t(parameters_[i % parameters_.size()].shape.elements()));
}

void CheckpointSnapshot::take(const TrainState& state, const ParameterStore& parameters, const TrainingStep& training) {
    reserve(parameters);
    state_ = state;
    for (size_t i = 0; i < arrays_.size(); i++)
        parameters.read(i % parameters_.size(), array_files[i / parameters_.size()].array, arrays_[i]);
    quantized_layers_ = training.quantized_layers();
    centroids_.clear();
    for (size_t layer = 0; layer < quantized_layers_.size(); layer++) centroids_.push_back(training.centroids(layer));
}

fs::path write_checkpoint(const fs::path& folder, const RunSettings& settings, const CheckpointSnapshot& snapshot) {
    return write(folder, settings, snapshot.state_,
                 {.parameters = snapshot.parameters_,
                  .values = [&](size_t i, size_t array) -> std::span<const float> {
                      return snapshot.arrays_[array * snapshot.parameters_.size() + i];
                  },
                  .quantized_layers = snapshot.quantized_layers_,
                  .centroids = [&](size_t layer) -> std::span<const float> { return snapshot.centroids_[layer]; }});
}

fs::path write_checkpoint(const fs::path& folder, const RunSettings& settings, const TrainState& state,
                          const ParameterStore& parameters, const TrainingStep& training) {
    std::vector<float> values, centroids;
    return write(folder, settings, state,
                 {.parameters = parameters.parameters(),
                  .values = [&](size_t i, size_t array) -> std::span<const float> {
                      return values = parameters.read(i, array_files[array].array);
                  },
                  .quantized_layers = training.quantized_layers(),
                  .centroids = [&](size_t layer) -> std::span<const float> { return centroids = training.centroids(layer); }});
}

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder) {
    const std::string where = (folder / manifest_name).string();
    if (!has_file(folder / manifest_name)) fail("{}: is no checkpoint: it has no {}", folder.string(), manifest_name);
    const json manifest = read_json_object(folder / manifest_name, size_t(256) << 20);
    try {
        if (manifest.value("format", "") != format_name) fail("{}: is no manifest of a checkpoint", where);
        const int version = manifest.at("version").get<int>();
        if (version != format_version)
            fail("{}: expected format version {}, found {}: another version of vkqat wrote it", where, format_version, version);
        compare(where, "checksum", manifest.at("checksum").get<std::string>(), manifest_checksum(manifest));
        state_.step = manifest.at("step").get<int64_t>();
        state_.quantized = manifest.at("quantized").get<bool>();
        state_.optimizer = optimizer_from_json(manifest.at("optimizer"));
        state_.data = in_context(where, [&] { return data_position_from_json(manifest.at("data").dump()); });
        if (auto recent = manifest.find("recent"); recent != manifest.end()) {
            state_.recent_losses = recent->at("loss").get<std::vector<double>>();
            state_.recent_gradient_norms = recent->at("gradient_norm").get<std::vector<double>>();
        }
        if (auto best = manifest.find("best"); best != manifest.end()) {
            state_.best_step = best->at("step").get<int64_t>();
            state_.best_loss = best->at("loss").get<double>();
        }
        for (const auto& [name, entry] : manifest.at("files").items()) verify_file(folder, name, entry);
        const json& tensors = manifest.at("tensors");
        for (const ArrayFile& file : array_files) {
            files_.emplace_back(folder / file.name);
            verify_tensors(files_.back(), tensors.at(file.name));
        }
        if (tensors.contains(centroids_name)) {
            files_.emplace_back(folder / centroids_name);
            verify_tensors(files_.back(), tensors.at(centroids_name));
        }
    } catch (const json::exception& e) {
        fail("{}: is malformed: {}", where, printable(e.what(), 300));
    }
    config_ = load_train_config(folder / config_name);
    model_ = read_llama_config(folder);
}

const TensorView* Checkpoint::centroids(const std::string& layer) const {
    return files_.size() <= std::size(array_files) ? nullptr : files_.back().find(layer + ".centroids");
}

void Checkpoint::restore_arrays(ParameterStore& parameters, size_t count) const {
    for (size_t f = 0; f < count; f++) {
        const SafetensorsFile& file = files_[f];
        if (file.tensors().size() != parameters.parameters().size())
            fail("{}: has {} tensors, the model has {} parameters", file.path().string(), file.tensors().size(),
                 parameters.parameters().size());
        for (size_t i = 0; i < parameters.parameters().size(); i++) {
            const TensorInfo expected = tensor_info(parameters.parameters()[i]);
            const TensorView& tensor = file.get(expected.name);
            if (tensor.shape != expected.shape)
                fail("{}: tensor '{}': the model needs {}, found {}", file.path().string(), expected.name,
                     shape_text(expected.shape), shape_text(tensor.shape));
            parameters.write(i, array_files[f].array, read_floats(tensor));
        }
    }
}

void Checkpoint::restore_quantization(const ParameterStore& parameters, TrainingStep& training) const {
    training.set_quantized(state_.quantized);
    if (!state_.quantized) return;
    for (size_t layer = 0; layer < training.quantized_layers().size(); layer++) {
        const size_t count = training.centroids(layer).size();
        if (count == 0) return;
        const std::string name = parameters.parameters()[training.quantized_layers()[layer]].layer_name();
        const TensorView* tensor = centroids(name);
        if (!tensor) fail("{}: has no centroids of {}", folder_.string(), name);
        if (tensor->shape != std::vector<int64_t>{int64_t(count)})
            fail("{}: centroids of {}: the quantizer has {}, found {}", folder_.string(), name, count, shape_text(tensor->shape));
        training.set_centroids(layer, read_floats(*tensor));
    }
}

void Checkpoint::restore(ParameterStore& parameters, TrainingStep& training) const {
    restore_arrays(parameters, std::size(array_files));
    training.restore_state(state_.optimizer);
    restore_quantization(parameters, training);
}

void Checkpoint::begin_from(ParameterStore& parameters, TrainingStep& training, bool quantization) const {
    restore_arrays(parameters, 1);
    if (quantization) restore_quantization(parameters, training);
}

bool is_run(const fs::path& path) { return !path.empty() && (has_file(path / manifest_name) || has_file(path / config_name)); }

std::optional<Checkpoint> latest_checkpoint(const fs::path& folder, const Say& say) {
    std::vector<fs::path> all = checkpoint_folders(folder);
    std::string reason;
    for (const fs::path& path : all) {
        try {
            return Checkpoint(path);
        } catch (const Error& e) {
            reason = e.what();
            if (say) say(fmt::format("passing over a damaged checkpoint: {}", reason));
        }
    }
    if (all.empty()) return std::nullopt;
    fail("{}: all checkpoints are damaged ({} of them); the oldest: {}", folder.string(), all.size(), reason);
}

void tidy_checkpoints(const fs::path& folder, int64_t step, const Say& say) {
    std::error_code error;
    std::vector<fs::path> left;
    for (auto entry = fs::directory_iterator(folder, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name.starts_with("step-") && name.find(".tmp") != std::string::npos) left.push_back(entry->path());
    }
    for (const fs::path& path : left) fs::remove_all(path, error);
    for (const fs::path& path : checkpoint_folders(folder)) {
        if (step_of(path) <= step) continue;
        const fs::path aside = path.string() + ".damaged";
        fs::remove_all(aside, error);
        fs::rename(path, aside, error);
        if (error) fail("{}: cannot rename it to {}: {}", path.string(), aside.filename().string(), error.message());
        if (say) say(fmt::format("{} is now {}", path.string(), aside.filename().string()));
    }
}

Checkpoint open_checkpoint(const fs::path& path, const Say& say) {
    std::error_code error;
    if (!fs::is_directory(path, error))
        fail("{}: is no folder; expected a checkpoint or the dump_folder of a run", path.string());
    if (step_of(path) >= 0 || has_file(path / manifest_name)) return Checkpoint(path);
    fs::path folder = path;
    if (has_file(path / config_name)) folder = path / load_train_config(path / config_name).checkpoint.folder;
    std::optional<Checkpoint> latest = latest_checkpoint(folder, say);
    if (!latest)
        fail("{}: there is no checkpoint in it; expected a checkpoint (step-...), a folder of them, or the dump_folder of a run",
             folder.string());
    return std::move(*latest);
}

Checkpoint open_best_checkpoint(const fs::path& path, const Say& say) {
    const Checkpoint latest = open_checkpoint(path, say);
    if (latest.state().best_step < 0)
        fail("{}: no checkpoint is known to be the best: the run needs checkpoint.keep_best = true", path.string());
    return Checkpoint(latest.folder().parent_path() / step_name(latest.state().best_step));
}

}  // namespace vkqat

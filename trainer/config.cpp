#include "trainer/config.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/text/utf8.h"
#include "trainer/config_keys.h"
#include "trainer/toml_text.h"

namespace vkqat {
namespace {

// Number of insertions, deletions and replacements that make one of the other; only the first 64 characters count.
size_t edit_distance(std::string_view a, std::string_view b) {
    a = a.substr(0, 64);
    b = b.substr(0, 64);
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 0; i < a.size(); ++i) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.size(); ++j) {
            size_t replaced = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
        }
    }
    return row[b.size()];
}

// The key that was probably meant: a right name in the wrong section is as near as a wrong letter in the right one.
const ConfigKey& nearest_key(const std::vector<ConfigKey>& keys, std::string_view section, std::string_view name) {
    auto distance = [&](const ConfigKey& key) {
        return 2 * edit_distance(name, key.name) + std::min<size_t>(2, edit_distance(section, key.section));
    };
    return *std::min_element(keys.begin(), keys.end(),
                             [&](const ConfigKey& a, const ConfigKey& b) { return distance(a) < distance(b); });
}

const ConfigKey* find_key(const std::vector<ConfigKey>& keys, std::string_view section, std::string_view name) {
    auto found =
        std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& k) { return k.section == section && k.name == name; });
    return found == keys.end() ? nullptr : &*found;
}

std::vector<std::string_view> section_names(const std::vector<ConfigKey>& keys) {
    std::vector<std::string_view> names;
    for (const ConfigKey& key : keys) {
        if (names.empty() || names.back() != key.section) names.push_back(key.section);
    }
    return names;
}

[[noreturn]] void unknown_section(const std::vector<ConfigKey>& keys, std::string_view section, std::string_view where) {
    std::vector<std::string_view> names = section_names(keys);
    auto nearest = std::min_element(names.begin(), names.end(), [&](std::string_view a, std::string_view b) {
        return edit_distance(section, a) < edit_distance(section, b);
    });
    throw UsageError(fmt::format("{}: unknown section [{}]; the nearest one is [{}] (all: {})", where, printable(section, 60),
                                 *nearest, fmt::join(names, ", ")));
}

std::string_view type_name(const toml::node& node) {
    constexpr std::string_view names[] = {
        "nothing",       "a table", "an array", "a string",       "a whole number", "a number with a fraction",
        "true or false", "a date",  "a time",   "a date and time"};
    return names[size_t(node.type())];
}

// Each returns false where the node is of another type.
bool read(const toml::node& node, bool& value) {
    if (!node.is_boolean()) return false;
    value = *node.value_exact<bool>();
    return true;
}
bool read(const toml::node& node, double& value) {
    if (!node.is_number()) return false;
    value = *node.value<double>();
    return true;
}
bool read(const toml::node& node, int64_t& value) {
    if (auto whole = node.value_exact<int64_t>()) {
        value = *whole;
        return true;
    }
    auto number = node.value_exact<double>();  // 1e6
    if (!number || std::trunc(*number) != *number || std::abs(*number) > Allowed::max_whole) return false;
    value = int64_t(*number);
    return true;
}
bool read(const toml::node& node, std::string& value) {
    auto text = node.value_exact<std::string>();
    if (text) value = std::move(*text);
    return text.has_value();
}
bool read(const toml::node& node, std::vector<std::string>& value) {
    std::vector<std::string> result;
    std::string text;
    if (const toml::array* array = node.as_array()) {
        for (const toml::node& element : *array) {
            if (!read(element, text)) return false;
            result.push_back(text);
        }
    } else if (!read(node, text)) {
        return false;
    } else if (!text.empty()) {
        result.push_back(text);
    }
    value = std::move(result);
    return true;
}

bool read(const toml::node& node, std::vector<int64_t>& value) {
    std::vector<int64_t> result;
    int64_t number = 0;
    if (const toml::array* array = node.as_array()) {
        for (const toml::node& element : *array) {
            if (!read(element, number)) return false;
            result.push_back(number);
        }
    } else if (!read(node, number)) {
        return false;
    } else {
        result.push_back(number);
    }
    value = std::move(result);
    return true;
}
bool read(const toml::node& node, std::vector<DatasetConfig>& value) {
    const toml::array* array = node.as_array();
    if (!array) return false;
    std::vector<DatasetConfig> result;
    for (const toml::node& element : *array) {
        const toml::table* table = element.as_table();
        if (!table) return false;
        DatasetConfig& dataset = result.emplace_back();
        for (const auto& [name, content] : *table) {
            const bool known = name == "path" ? read(content, dataset.path) : name == "weight" && read(content, dataset.weight);
            if (!known) return false;
        }
    }
    value = std::move(result);
    return true;
}

void check_text(const std::string& text, const ConfigKey& key, std::string_view where) {
    if (text.find('\0') != std::string::npos) fail("{}: {} holds a NUL character", where, key.full_name());
    if (!utf8_valid(text)) fail("{}: {} is no valid UTF-8", where, key.full_name());
}

void assign(const ConfigKey& key, const toml::node& node, std::string_view where) {
    if (!std::visit([&](auto* value) { return read(node, *value); }, key.value)) {
        fail("{}: {}: expected {}, found {}", where, key.full_name(), type_text(key), type_name(node));
    }
    if (auto text = std::get_if<std::string*>(&key.value)) check_text(**text, key, where);
    if (auto texts = std::get_if<std::vector<std::string>*>(&key.value)) {
        for (const std::string& text : **texts) check_text(text, key, where);
    }
    if (auto datasets = std::get_if<std::vector<DatasetConfig>*>(&key.value)) {
        for (const DatasetConfig& dataset : **datasets)
            for (const std::string& text : dataset.path) check_text(text, key, where);
    }
    check_allowed(key, where);
}

void read_file(const std::vector<ConfigKey>& keys, const std::filesystem::path& file) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) {
        fail("{}: there is no such configuration file; assets/configs has examples", file.string());
    }
    const toml::table root = parse_toml(read_text_file(file, max_toml_bytes), file.string());
    for (const auto& [section, content] : root) {
        const std::string where = fmt::format("{}:{}", file.string(), section.source().begin.line);
        if (!content.is_table()) {
            const ConfigKey& nearest = nearest_key(keys, "", section.str());
            throw UsageError(fmt::format("{}: '{}' stands in no section; the nearest key is {} in section [{}]", where,
                                         printable(section.str(), 60), nearest.name, nearest.section));
        }
        auto of_section = [&](const ConfigKey& key) { return key.section == section.str(); };
        if (std::none_of(keys.begin(), keys.end(), of_section)) unknown_section(keys, section.str(), where);
        for (const auto& [name, value] : *content.as_table()) {
            const std::string here = fmt::format("{}:{}", file.string(), name.source().begin.line);
            const ConfigKey* key = find_key(keys, section.str(), name.str());
            if (!key) {
                const ConfigKey& nearest = nearest_key(keys, section.str(), name.str());
                throw UsageError(fmt::format("{}: unknown key '{}' in section [{}]; the nearest one is {} in section [{}]", here,
                                             printable(name.str(), 60), section.str(), nearest.name, nearest.section));
            }
            assign(*key, value, here);
        }
    }
}

// The text as a TOML value; nothing where it is none, or more than one.
std::optional<toml::table> parse_value(std::string_view text) {
    try {
        toml::table table = parse_toml("value = " + std::string(text), "");
        if (table.size() == 1) return table;
    } catch (const Error&) {
        // A bare word, a path: a string without its quotes.
    }
    return {};
}

void apply_override(const std::vector<ConfigKey>& keys, const std::string& text) {
    const std::string where = printable(text, 120);
    const size_t equals = text.find('='), dot = text.find('.');
    if (text.rfind("--", 0) != 0 || equals == std::string::npos || dot > equals) {
        throw UsageError(fmt::format("{}: expected --section.key=value", where));
    }
    const std::string section = text.substr(2, dot - 2), name = text.substr(dot + 1, equals - dot - 1);
    const ConfigKey* key = find_key(keys, section, name);
    if (!key) {
        throw UsageError(
            fmt::format("{}: unknown key; the nearest one is --{}", where, nearest_key(keys, section, name).full_name()));
    }
    const std::string value = text.substr(equals + 1);
    const bool takes_text = std::holds_alternative<std::string*>(key->value);
    const bool takes_texts = std::holds_alternative<std::vector<std::string>*>(key->value);
    std::optional<toml::table> parsed = parse_value(value);
    const toml::node* node = parsed ? parsed->get("value") : nullptr;
    const toml::value<std::string> as_text(value);
    if (!node || (takes_text && !node->is_string()) || (takes_texts && !node->is_string() && !node->is_array())) node = &as_text;
    assign(*key, *node, where);
}

}  // namespace

TrainConfig load_train_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
    TrainConfig config;
    const std::vector<ConfigKey> keys = config_keys(config);
    read_file(keys, file);
    for (const std::string& text : overrides) apply_override(keys, text);
    validate(config, file.string());
    return config;
}

void validate(const TrainConfig& config, std::string_view where) {
    TrainConfig copy = config;  // the table points to what may be changed
    for (const ConfigKey& key : config_keys(copy)) check_allowed(key, where);
    if (config.job.dump_folder.empty()) fail("{}: job.dump_folder is empty: name a folder for what the run writes", where);
    if (config.checkpoint.folder.empty()) fail("{}: checkpoint.folder is empty: name a folder below job.dump_folder", where);
    if (config.training.dataset.empty() == config.training.datasets.empty())
        fail("{}: training.dataset {}: name files, folders or globs of text", where,
             config.training.dataset.empty() ? "is missing" : "and training.datasets are both given, expected one of them");
    if (config.profiling.enable && config.profiling.folder.empty())
        fail("{}: profiling.folder is empty: name a folder below job.dump_folder", where);
    if (config.metrics.enable_tensorboard && config.metrics.tensorboard_folder.empty())
        fail("{}: metrics.tensorboard_folder is empty: name a folder below job.dump_folder", where);
    if (config.tokenizer_path().empty()) {
        fail("{}: model.tokenizer_path is missing: name a folder with a tokenizer ('vkqat tokenizer train' makes one)", where);
    }
    if (config.global_batch_size() % config.training.local_batch_size != 0) {
        fail("{}: training.global_batch_size = {} is no multiple of training.local_batch_size = {}", where,
             config.training.global_batch_size, config.training.local_batch_size);
    }
    if (config.distributed.zero1 && config.quantization.centroid_update_algorithm == "fischer_kmeans" &&
        config.quantization.quantizer == "nonlinear") {
        fail("{}: distributed.zero1 spreads the second moments over the ranks, and fischer_kmeans needs them whole: choose one",
             where);
    }
    if (!config.fine_tunes() && config.sft != SftConfig{}) fail("{}: [sft] needs training.dataset_type = \"sft\"", where);
    if (config.validation.enable && config.validation.dataset.empty()) {
        fail("{}: validation.enable is true, but validation.dataset is missing: name files, folders or globs of text", where);
    }
    if (config.checkpoint.keep_best && !(config.checkpoint.enable && config.validation.enable))
        fail("{}: checkpoint.keep_best needs checkpoint.enable and validation.enable", where);
    const DistillationSection& d = config.distillation;
    if (!d.teacher.empty() && d.weight == 0 && d.label_weight == 0 && d.hidden_weight == 0)
        fail("{}: distillation.weight, label_weight and hidden_weight are all 0: there is no loss", where);
    if (d.teacher.empty() && d != DistillationSection{})
        fail("{}: [distillation] needs distillation.teacher: name a model directory", where);
    if (!d.cache.empty() && d.hidden_weight > 0)
        fail("{}: distillation.cache keeps no hidden states: leave it out, or choose distillation.hidden_weight = 0", where);
    in_context(fmt::format("{}: [quantization]", where), [&] { validate(quantizer_config(config)); });
    const QuantizationSection& q = config.quantization;
    if (q.quantizer == "onebit" && (q.qat_start_step > 1 || q.ignore_names != std::vector<std::string>{"output"}))
        fail(
            "{}: quantizer onebit changes all layers but the head from the first step on: leave out quantization.qat_start_step "
            "and "
            "quantization.ignore_names",
            where);
}

std::string train_config_help() {
    TrainConfig config;
    const std::vector<ConfigKey> keys = config_keys(config);
    std::string text, section;
    for (const ConfigKey& key : keys) {
        if (key.section != section) {
            section = key.section;
            text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
        }
        std::string allowed = allowed_text(key);
        if (key.allowed.choices.empty()) allowed = fmt::format("{}{}{}", type_text(key), allowed.empty() ? "" : ", ", allowed);
        text += fmt::format("  {:<40} {} ({})\n", fmt::format("{} = {}", key.name, value_text(key)), key.help, allowed);
    }
    return text;
}

std::string to_toml(const TrainConfig& config) {
    TrainConfig copy = config;
    std::string text = "# The complete configuration of a run of vkqat train: every key, defaults included.\n", section;
    for (const ConfigKey& key : config_keys(copy)) {
        if (key.section != section) {
            section = key.section;
            text += fmt::format("\n[{}]\n", section);
        }
        text += fmt::format("{} = {}\n", key.name, value_text(key));
    }
    return text;
}

QuantizerConfig quantizer_config(const TrainConfig& config) {
    const QuantizationSection& q = config.quantization;
    if (quantizes_activations(config)) return {.kind = QuantizerKind::ternary, .bits = 2, .block_dim_1 = 0, .block_dim_2 = 0};
    return {.kind = parse_quantizer_kind(q.quantizer),
            .bits = int(q.target_bit_width),
            .block_dim_1 = q.block_dim_1,
            .block_dim_2 = q.block_dim_2,
            .scale = parse_scale_statistic(q.relative_scale)};
}

}  // namespace vkqat

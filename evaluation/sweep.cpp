#include "evaluation/sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "trainer/config.h"
#include "trainer/toml_text.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Method {
    std::vector<std::string> train, quantize;
};

// What the papers do: absmax scales at 4 bits and more, absmean below; integers of 2 bits are ternary, of 1 bit binary.
Method integers(int bits) {
    const char* quantizer = bits == 1 ? "binary" : bits == 2 ? "ternary" : "sym_int";
    const char* scale = bits <= 2 ? "absmean" : "absmax";
    return {{fmt::format("quantization.quantizer={}", quantizer), fmt::format("quantization.relative_scale={}", scale)},
            {fmt::format("--quantizer={}", quantizer), fmt::format("--scale={}", scale)}};
}

Method k_means(int bits) {
    const char* scale = bits <= 2 ? "absmean" : "absmax";
    // Without training an outlier must not set the scale of all others: `vkqat quantize` has absmean at every width.
    return {{"quantization.quantizer=nonlinear", fmt::format("quantization.relative_scale={}", scale)},
            {"--quantizer=nonlinear"}};
}

bool is_file_name(const std::string& text) {
    return !text.empty() && text.size() <= 80 && text[0] != '.' && text[0] != '-' &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+") == text.npos;
}

std::vector<std::string> texts(const toml::node& node, const std::string& what) {
    const toml::array* array = node.as_array();
    if (!array) fail("{}: expected a list of texts", what);
    std::vector<std::string> out;
    for (const toml::node& one : *array) {
        if (!one.is_string()) fail("{}: expected a list of texts", what);
        out.push_back(one.as_string()->get());
    }
    return out;
}

const toml::table& table(const toml::node& node, const std::string& what) {
    if (!node.is_table()) fail("[{}]: expected a table", what);
    return *node.as_table();
}

void check_keys(const toml::table& found, const std::string& where, std::vector<std::string_view> known) {
    for (const auto& [key, value] : found)
        if (std::find(known.begin(), known.end(), key.str()) == known.end())
            throw UsageError(
                fmt::format("{}: unknown key '{}'; known are {}", where, printable(key.str(), 40), fmt::join(known, ", ")));
}

// "section.key=value" as an argument of `vkqat train`.
std::vector<std::string> overrides(const std::vector<std::string>& settings, const std::string& what) {
    std::vector<std::string> out;
    for (const std::string& text : settings) {
        if (text.starts_with("-") || text.find('=') == text.npos || text.find('.') > text.find('='))
            fail("{}: expected \"section.key=value\" as in a training configuration, found \"{}\"", what, printable(text, 80));
        if (text.starts_with("job.dump_folder")) fail("{}: job.dump_folder is chosen by the sweep, below its results", what);
        out.push_back("--" + text);
    }
    return out;
}

class Reader {
public:
    explicit Reader(const fs::path& file) : root_(parse_toml(read_text_file(file, max_toml_bytes), file.string())) {}

    Sweep read() {
        check_keys(root_, "the sweep", {"train", "sizes", "models", "methods", "run", "evaluate"});
        if (const toml::node* node = root_.get("train")) read_train(table(*node, "train"));
        if (const toml::node* node = root_.get("sizes"))
            for (const auto& [key, value] : table(*node, "sizes"))
                sizes_[name(key.str())] = overrides(texts(value, fmt::format("sizes.{}", key.str())), "sizes");
        if (const toml::node* node = root_.get("models"))
            for (const auto& [key, value] : table(*node, "models")) {
                if (!value.is_string()) fail("models.{}: expected the path of a model", printable(key.str(), 40));
                if (sizes_.contains(std::string(key.str()))) fail("'{}' is a size and a model", key.str());
                models_[name(key.str())] = value.as_string()->get();
            }
        if (const toml::node* node = root_.get("methods"))
            for (const auto& [key, value] : table(*node, "methods")) read_method(name(key.str()), value);
        const toml::node* runs = root_.get("run");
        if (!runs || !runs->is_array() || runs->as_array()->empty()) fail("expected at least one [[run]]");
        for (const toml::node& run : *runs->as_array()) read_run(table(run, "run"));
        if (const toml::node* node = root_.get("evaluate")) read_evaluate(table(*node, "evaluate"));
        if (sweep_.texts.empty() && sweep_.tasks.empty()) fail("[evaluate]: expected texts or tasks");
        return sweep_;
    }

private:
    static std::string name(std::string_view text) {
        if (!is_file_name(std::string(text)))
            fail("'{}': names become names of files: expected letters, digits, - _ . +", printable(text, 60));
        return std::string(text);
    }

    void read_train(const toml::table& t) {
        check_keys(t, "[train]", {"config", "set", "keep_checkpoints"});
        const toml::node* config = t.get("config");
        if (!config || !config->is_string()) fail("[train]: config: expected the path of a training configuration");
        sweep_.config = config->as_string()->get();
        if (const toml::node* set = t.get("set")) set_ = overrides(texts(*set, "train.set"), "train.set");
        if (const toml::node* keep = t.get("keep_checkpoints")) {
            if (!keep->is_boolean()) fail("train.keep_checkpoints: expected true or false");
            sweep_.keep_checkpoints = keep->as_boolean()->get();
        }
    }

    void read_method(const std::string& method, const toml::node& node) {
        const std::string where = fmt::format("methods.{}", method);
        if (method == "full" || method == "k-means" || method == "integers") fail("{}: is known already", where);
        const toml::table& t = table(node, where);
        check_keys(t, where, {"train", "quantize"});
        Method m;
        if (const toml::node* train = t.get("train")) m.train = texts(*train, where + ".train");
        if (const toml::node* quantize = t.get("quantize")) m.quantize = texts(*quantize, where + ".quantize");
        for (const std::string& option : m.quantize)
            if (!option.starts_with("--") || option.starts_with("--bits") || option.starts_with("--device"))
                fail("{}.quantize: expected options of `vkqat quantize` other than --bits and --device, such as \"--weighted\"",
                     where);
        methods_[method] = m;
    }

    Method method_of(const std::string& method, int bits) const {
        if (method == "full") {
            if (bits != 16) fail("[[run]]: the method full has 16 bits, not {}", bits);
            return {{"quantization.quantizer=none"}, {}};
        }
        if (bits == 16) fail("[[run]]: 16 bits are for the method full, not {}", method);
        if (method == "k-means") return k_means(bits);
        if (method == "integers") return integers(bits);
        auto found = methods_.find(method);
        if (found == methods_.end())
            fail("[[run]]: there is no method '{}'; known are full, k-means, integers, and those of [methods]",
                 printable(method, 40));
        return found->second;
    }

    void read_run(const toml::table& t) {
        check_keys(t, "[[run]]", {"sizes", "models", "methods", "bits"});
        std::vector<std::string> of, methods;
        std::vector<int> bits;
        for (const char* key : {"sizes", "models"})
            if (const toml::node* node = t.get(key))
                for (const std::string& one : texts(*node, fmt::format("run.{}", key))) {
                    const bool known = key[0] == 's' ? sizes_.contains(one) : models_.contains(one);
                    if (!known) fail("[[run]]: '{}' is not defined in [{}]", printable(one, 40), key);
                    of.push_back(one);
                }
        if (of.empty()) fail("[[run]]: expected sizes or models");
        const toml::node* node = t.get("methods");
        if (node) methods = texts(*node, "run.methods");
        if (methods.empty()) fail("[[run]]: expected methods");
        node = t.get("bits");
        if (node && !node->is_array()) fail("run.bits: expected a list of numbers");
        if (node)
            for (const toml::node& one : *node->as_array()) {
                auto value = one.value_exact<int64_t>();
                if (!value || (*value != 16 && *value != 1 && *value != 2 && *value != 3 && *value != 4 && *value != 8))
                    fail("run.bits: expected 1, 2, 3, 4, 8 or 16");
                bits.push_back(int(*value));
            }
        if (bits.empty() && methods == std::vector<std::string>{"full"}) bits = {16};
        if (bits.empty()) fail("[[run]]: expected bits");
        for (const std::string& size : of)
            for (const std::string& method : methods)
                for (int b : bits) add(size, method, b);
    }

    void add(const std::string& size, const std::string& method, int bits) {
        SweepPoint p{.name = fmt::format("{}-{}-{}", size, method, bits), .size = size, .method = method, .bits = bits};
        if (std::any_of(sweep_.points.begin(), sweep_.points.end(), [&](const SweepPoint& q) { return q.name == p.name; }))
            fail("[[run]]: {} stands there twice", p.name);
        const Method m = method_of(method, bits);
        if (auto given = models_.find(size); given != models_.end()) {
            p.model = given->second;
            if (bits != 16) {
                p.quantize = m.quantize;
                p.quantize.push_back(fmt::format("--bits={}", bits));
            }
            p.settings = fmt::format("model {}\n{}\n", p.model.string(), fmt::join(p.quantize, " "));
        } else {
            if (sweep_.config.empty()) fail("[train]: config is needed for {}", p.name);
            p.train = set_;
            for (const auto* more : {&sizes_.at(size)}) p.train.insert(p.train.end(), more->begin(), more->end());
            const std::vector<std::string> how = overrides(m.train, "methods." + method);
            p.train.insert(p.train.end(), how.begin(), how.end());
            if (bits != 16) p.train.push_back(fmt::format("--quantization.target_bit_width={}", bits));
            TrainConfig config = in_context(p.name, [&] { return load_train_config(sweep_.config, p.train); });
            if (!config.checkpoint.enable) fail("{}: checkpoint.enable = false: a sweep's models come from checkpoints", p.name);
            config.job = {};
            p.settings = to_toml(config);
        }
        sweep_.points.push_back(std::move(p));
    }

    void read_evaluate(const toml::table& t) {
        check_keys(t, "[evaluate]",
                   {"texts", "tasks", "context", "stride", "limit", "few_shot", "document_separator", "sensitivity"});
        auto list = [&](const char* key) {
            const toml::node* node = t.get(key);
            return node ? texts(*node, fmt::format("evaluate.{}", key)) : std::vector<std::string>();
        };
        auto number = [&](const char* key, int64_t otherwise, int64_t lowest, int64_t highest) {
            const toml::node* node = t.get(key);
            if (!node) return otherwise;
            auto value = node->value_exact<int64_t>();
            if (!value || *value < lowest || *value > highest)
                fail("evaluate.{}: expected a number from {} to {}", key, lowest, highest);
            return *value;
        };
        auto text = [&](const char* key) {
            const toml::node* node = t.get(key);
            if (node && !node->is_string()) fail("evaluate.{}: expected text", key);
            return node ? node->as_string()->get() : std::string();
        };
        sweep_.texts = list("texts");
        sweep_.tasks = list("tasks");
        sweep_.context = number("context", 0, 2, int64_t(1) << 24);
        sweep_.stride = number("stride", 0, 1, int64_t(1) << 24);
        sweep_.limit = number("limit", 0, 1, int64_t(1) << 31);
        sweep_.few_shot = int(number("few_shot", -1, 0, 100));
        sweep_.separator = text("document_separator");
        sweep_.sensitivity = text("sensitivity");
        for (const std::string& file : sweep_.texts)
            if (!has_file(file)) fail("evaluate.texts: {}: there is no such file", file);
        if (!sweep_.sensitivity.empty() && !has_file(sweep_.sensitivity))
            fail("evaluate.sensitivity: {}: there is no such file", sweep_.sensitivity);
    }

    toml::table root_;
    std::map<std::string, std::vector<std::string>> sizes_;
    std::map<std::string, std::string> models_;
    std::map<std::string, Method> methods_;
    std::vector<std::string> set_;
    Sweep sweep_;
};

json read_result(const fs::path& file) { return read_json_object(file, size_t(64) << 20); }

std::string settings_of(const json& result) {
    auto found = result.find("settings");
    return found != result.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string Sweep::evaluation() const {
    return fmt::format("texts {}\ntasks {}\ncontext {}\nstride {}\nlimit {}\nfew_shot {}\nseparator {}\nsensitivity {}\n",
                       fmt::join(texts, " "), fmt::join(tasks, " "), context, stride, limit, few_shot,
                       json(separator).dump(-1, ' ', false, json::error_handler_t::replace), sensitivity);
}

Sweep read_sweep(const fs::path& file) {
    Reader reader(file);
    return in_context(file.string(), [&] { return reader.read(); });
}

std::vector<fs::path> result_files(const fs::path& folder) {
    std::vector<fs::path> files;
    std::error_code error;
    for (auto entry = fs::directory_iterator(folder / "results", error); !error && entry != fs::directory_iterator();
         entry.increment(error))
        if (entry->path().extension() == ".json") files.push_back(entry->path());
    std::sort(files.begin(), files.end());
    return files;
}

size_t merge_results(const fs::path& out, const std::vector<fs::path>& from) {
    std::map<fs::path, std::pair<fs::path, std::string>> known;  // by file name: where, and its settings
    for (const fs::path& file : result_files(out)) known[file.filename()] = {file, settings_of(read_result(file))};
    std::vector<fs::path> copies;
    size_t found = 0;
    for (const fs::path& folder : from)
        for (const fs::path& file : result_files(folder)) {
            found++;
            const std::string settings = settings_of(read_result(file));
            auto [at, is_new] = known.insert({file.filename(), {file, settings}});
            if (is_new)
                copies.push_back(file);
            else if (at->second.second != settings)
                fail("{} and {}: one name, but models of different settings", at->second.first.string(), file.string());
        }
    if (found == 0) fail("there are no results: expected FOLDER/results/NAME.json in the folders of sweeps");
    fs::create_directories(out / "results");
    for (const fs::path& file : copies) {
        const fs::path curve = fs::path("runs") / file.stem() / "metrics.jsonl";
        if (const fs::path run = file.parent_path().parent_path() / curve; has_file(run)) {
            fs::create_directories((out / curve).parent_path());
            write_text_file(out / curve, read_text_file(run));
        }
        write_text_file(out / "results" / file.filename(), read_text_file(file, size_t(64) << 20));
    }
    return copies.size();
}

}  // namespace vkqat

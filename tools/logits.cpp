// vkqat logits: what a model says about the token that follows.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tools/console.h"
#include "tools/model.h"

namespace vkqat {
namespace {

struct Options {
    std::string model;
    PromptOptions prompt;
    std::shared_ptr<std::string> device;
    int64_t best = 10;
    bool as_json = false;
};

void print_best(const std::vector<float>& logits, int64_t count, const std::optional<Tokenizer>& tokenizer) {
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    size_t shown = std::min<size_t>(size_t(count), order.size());
    // NaN last, so that the order is one
    auto value = [&](int32_t id) { return std::isnan(logits[size_t(id)]) ? -INFINITY : logits[size_t(id)]; };
    auto better = [&](int32_t a, int32_t b) { return value(a) != value(b) ? value(a) > value(b) : a < b; };
    std::partial_sort(order.begin(), order.begin() + ptrdiff_t(shown), order.end(), better);
    double sum = 0, highest = order.empty() ? 0 : value(order[0]);
    for (float logit : logits)
        if (!std::isnan(logit)) sum += std::exp(double(logit) - highest);
    Table table({">id", ">logit", ">probability", "token"});
    for (size_t i = 0; i < shown; i++) {
        int32_t id = order[i];
        table.add({std::to_string(id), fmt::format("{:.4f}", logits[size_t(id)]),
                   fmt::format("{:.2f} %", 100 * std::exp(double(value(id)) - highest) / sum),
                   tokenizer ? quoted_piece(*tokenizer, id) : "-"});
    }
    table.print();
}

void run(const Options& o) {
    std::filesystem::path directory = o.model;
    check_model_directory(directory);
    LlamaConfig config = read_llama_config(directory);
    std::optional<Tokenizer> tokenizer;
    if (o.prompt.text || !o.as_json) tokenizer = find_tokenizer(directory, config);
    std::vector<int32_t> ids = o.prompt.read(tokenizer, directory, config);
    Gpu gpu(*o.device);
    announce_cpu(gpu);
    LlamaWeights weights = load_weights(gpu, directory);
    Session session(weights, {.context = int64_t(ids.size())});
    session.prefill(ids);
    std::vector<float> logits = session.logits();
    if (!o.as_json) return print_best(logits, o.best, tokenizer);
    nlohmann::ordered_json result{{"model", o.model}, {"device", gpu.device.capabilities().name}, {"ids", ids}};
    nlohmann::ordered_json& list = result["logits"] = nlohmann::ordered_json::array();
    for (float logit : logits) list.push_back(logit);
    std::printf("%s\n", result.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).c_str());
}

}  // namespace

void add_logits_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("logits", "logits of the token that follows a text");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of the model, or a .gguf file")->required()->type_name("MODEL");
    o->prompt.add(*command);
    command->add_option("--best", o->best, "how many are shown (10)")->check(between(1, 1000000))->type_name("N");
    command->add_flag("--json", o->as_json, "print all logits as JSON");
    o->device = add_device_option(*command);
    command->footer("Examples:\n  vkqat logits MODEL --prompt \"Once upon a\"\n  vkqat logits MODEL --ids 1,403,407 --json");
    command->callback([=] { run(*o); });
}

}  // namespace vkqat

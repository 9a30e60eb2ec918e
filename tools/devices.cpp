// vkqat devices: what there is to run on.
#include <nlohmann/json.hpp>

#include "tools/command.h"
#include "tools/console.h"
#include "trainer/train.h"

namespace vkqat {
namespace {

std::string training_precision(const Capabilities& c) { return choose_precision("auto", c) == Precision::bf16 ? "bf16" : "fp32"; }

std::vector<std::string> matrix_units(const Capabilities& c) {
    std::vector<std::string> types;
    for (DType type : {DType::bf16, DType::f16, DType::i8})
        if (c.cooperative_matrix(type, type == DType::i8 ? DType::i32 : DType::f32)) types.emplace_back(name(type));
    return types;
}

std::string subgroup_text(const Capabilities& c) {
    if (c.min_subgroup_size == c.max_subgroup_size || c.max_subgroup_size == 0) return std::to_string(c.subgroup_size);
    return fmt::format("{} ({} to {})", c.subgroup_size, c.min_subgroup_size, c.max_subgroup_size);
}

void run(bool as_json) {
    Instance instance;
    if (as_json) {
        nlohmann::ordered_json list = nlohmann::ordered_json::array();
        for (size_t i = 0; i < instance.devices().size(); i++) {
            Capabilities c = query_capabilities(instance.devices()[i]);
            list.push_back({{"index", i},
                            {"name", c.name},
                            {"kind", kind_name(c.kind)},
                            {"driver", c.driver},
                            {"vulkan", fmt::format("{}.{}.{}", VK_API_VERSION_MAJOR(c.api_version),
                                                   VK_API_VERSION_MINOR(c.api_version), VK_API_VERSION_PATCH(c.api_version))},
                            {"memory_bytes", c.device_memory_bytes},
                            {"subgroup_size", c.subgroup_size},
                            {"min_subgroup_size", c.min_subgroup_size},
                            {"max_subgroup_size", c.max_subgroup_size},
                            {"matrix_units", matrix_units(c)},
                            {"training_precision", training_precision(c)},
                            {"default", i == 0}});
        }
        nlohmann::ordered_json result{{"devices", list}, {"not_usable", instance.rejected()}};
        std::printf("%s\n", result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
        return;
    }
    if (instance.devices().empty()) {
        std::string message = "no device here can be used";
        for (const std::string& reason : instance.rejected()) message += "; " + reason;
        fail("{}", message);
    }
    Table table({">index", "name", "kind", "driver", ">memory", "subgroup", "matrix units", "trains in"});
    for (size_t i = 0; i < instance.devices().size(); i++) {
        Capabilities c = query_capabilities(instance.devices()[i]);
        std::vector<std::string> units = matrix_units(c);
        table.add({std::to_string(i), c.name, std::string(kind_name(c.kind)), c.driver,
                   human_bytes(double(c.device_memory_bytes)), subgroup_text(c),
                   units.empty() ? "none" : fmt::format("{}", fmt::join(units, ", ")), training_precision(c)});
    }
    table.print();
    std::printf("\nDevice 0 is used unless --device names another.\n");
    if (query_capabilities(instance.devices()[0]).kind == DeviceKind::cpu)
        std::printf("It is a CPU: there is no GPU here, or none that has a Vulkan driver.\n");
    for (const std::string& reason : instance.rejected()) std::printf("not usable: %s\n", reason.c_str());
}

}  // namespace

void add_devices_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("devices", "list the devices and what they can do");
    auto as_json = std::make_shared<bool>(false);
    command->add_flag("--json", *as_json, "print JSON");
    command->footer("Examples:\n  vkqat devices\n  vkqat devices --json");
    command->callback([=] { run(*as_json); });
}

}  // namespace vkqat

#include "tools/command.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace vkqat {
namespace {

bool validation_is_wanted() {
    const char* value = std::getenv("VKQAT_VALIDATION");
    return value && std::string_view(value) == "1";
}

}  // namespace

Gpu::Gpu(const std::string& selector, uint32_t which)
    : instance(InstanceOptions{.validation = validation_is_wanted()}),
      device(instance, DeviceOptions{.selector = selector, .which = which}) {}

std::shared_ptr<std::string> add_device_option(CLI::App& command) {
    auto selector = std::make_shared<std::string>();
    command.add_option("--device", *selector, "the device: index or part of its name, as `vkqat devices` lists them")
        ->type_name("DEVICE");
    return selector;
}

CLI::Validator between(int64_t lowest, int64_t highest) {
    auto check = [=](std::string& text) {
        int64_t value = 0;
        auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error == std::errc() && end == text.data() + text.size() && value >= lowest && value <= highest) return std::string();
        return fmt::format("expected a whole number from {} to {}, found '{}'", lowest, highest, text);
    };
    return CLI::Validator(check, "");
}

std::string device_line(const Device& device) {
    const Capabilities& c = device.capabilities();
    if (c.kind == DeviceKind::cpu) return c.name + ", a CPU: no GPU is used";
    return fmt::format("{} ({})", c.name, kind_name(c.kind));
}

}  // namespace vkqat

// vkqat profile: where a model's memory and time go.
#pragma once

namespace CLI {
class App;
}

namespace vkqat {

void add_profile_command(CLI::App& app);

}  // namespace vkqat

// The program's settings and where things are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

struct Settings {
    std::string theme = "system";              // system, light, dark
    double font_size = 14, scale = 0;          // scale 0: the display's
    std::vector<std::string> folders;          // of the library
    std::vector<std::string> runs;             // folders that hold training runs
    std::string results;                       // folder of results
    std::map<std::string, int64_t> last_used;  // model: seconds since 1970
    std::string device, model, second_model, conversation, cache;
    int64_t context = 0;
    bool sidebar = true, chat_panel = false, compare = false;
    int width = 1280, height = 800;
};

std::string to_json(const Settings& settings);
Settings settings_from_json(std::string_view json, std::string_view where);  // Error if it is malformed

std::filesystem::path config_folder();  // $XDG_CONFIG_HOME/vkqat or ~/.config/vkqat
std::filesystem::path data_folder();    // $XDG_DATA_HOME/vkqat or ~/.local/share/vkqat

}  // namespace vkqat

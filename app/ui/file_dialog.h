// Choosing a folder or a file: a dialog of the program's own, since no distribution packages a native one as a library.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/ui/theme.h"

namespace vkqat {

class FileDialog {
public:
    // `folders`: a folder is chosen, and files are shown for orientation; files with this extension can be chosen as well.
    void open(std::string title, bool folders, std::string extension, std::function<void(const std::filesystem::path&)> done);
    void draw(const Theme& theme);

private:
    struct Entry {
        std::string name;
        bool folder;
    };
    void enter(std::filesystem::path folder);

    std::string title_, extension_, typed_, error_;
    bool folders_ = true, opening_ = false;
    std::filesystem::path folder_, chosen_;
    std::vector<Entry> entries_;
    std::function<void(const std::filesystem::path&)> done_;
};

}  // namespace vkqat

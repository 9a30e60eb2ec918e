// A display without a screen (Xvfb), vkqat-app on it, and somebody who presses keys and clicks (xdotool). What is on the screen
// is read from the list of widgets that the program keeps for that (--dump-widgets).
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vkqat {

bool have_desktop_tools();  // the program was built, Xvfb and xdotool are there

class Desktop {
public:
    explicit Desktop(int width = 1400, int height = 900);  // throws where Xvfb does not start
    ~Desktop();                                            // ends the program and the display
    Desktop(const Desktop&) = delete;
    Desktop& operator=(const Desktop&) = delete;

    std::filesystem::path folder;  // configuration and data lie in it
    std::filesystem::path conversations() const { return folder / "data/vkqat/conversations"; }

    std::map<std::string, std::string> environment;  // of the program, besides the usual
    std::string size = "1280x800";                   // of its window
    // Where a fault of the Vulkan layer in tests/app/shims is to happen; "": nowhere.
    void set_vulkan_fault(const std::string& fault);
    void start(const std::vector<std::string>& arguments = {});
    int end(int signal);  // and waits; the exit status, or the negative signal
    pid_t pid() const { return program_; }
    bool running();

    // A PNG of the window as it is, into the folder that VKQAT_SCREENSHOTS names; nothing without it.
    void screenshot(const std::string& name) const;
    nlohmann::json screen() const;  // the newest list; null if there is none yet
    // Waits until `holds` is true of the screen. False, with what was there, after `seconds`.
    testing::AssertionResult wait(const std::function<bool(const nlohmann::json&)>& holds, double seconds = 60) const;
    testing::AssertionResult wait_for_text(const std::string& part, double seconds = 60) const;  // in any note
    testing::AssertionResult click(const std::string& label, double seconds = 30);  // the first widget with that label
    void resize(int width, int height);                                             // the window
    void key(const std::string& keys);                                              // as xdotool names them: "ctrl+n"
    void type(const std::string& text);
    void drag(int from_x, int from_y, int to_x, int to_y);  // with the left button
    // As a file manager does; the program's exit status is 0 when the window has taken them (tests/app/shims/drop_files.cpp).
    int drop(const std::vector<std::filesystem::path>& files);
    nlohmann::json widget(const std::string& label) const;  // the first one; null if there is none

    // The conversations on disk.
    std::vector<nlohmann::json> saved() const;
    testing::AssertionResult wait_for_saved(const std::function<bool(const std::vector<nlohmann::json>&)>& holds,
                                            double seconds = 30) const;

private:
    int xdotool(const std::vector<std::string>& arguments) const;
    pid_t spawn(const std::vector<std::string>& words, int keep_fd = -1) const;

    pid_t display_process_ = -1, program_ = -1;
    std::string display_;
};

bool has_text(const nlohmann::json& screen, const std::string& part);
bool has_widget(const nlohmann::json& screen, const std::string& label);

}  // namespace vkqat

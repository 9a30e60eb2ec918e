// Somebody in front of the program: a fixture for tests that drive it.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/app/desktop.h"
#include "tests/support/reference.h"

namespace vkqat {

namespace fs = std::filesystem;
using nlohmann::json;

inline std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<json> of_role(const json& conversation, const std::string& role) {
    std::vector<json> found;
    for (const json& m : conversation["messages"])
        if (m["role"] == role) found.push_back(m);
    return found;
}

// Nothing is being answered and the last answer is whole on disk.
inline bool answered(const std::vector<json>& saved, size_t answers) {
    if (saved.size() != 1) return false;
    const std::vector<json> found = of_role(saved[0], "assistant");
    return found.size() == answers && !found.back()["content"].get<std::string>().empty() &&
           found.back()["stats"]["tokens"].get<int>() > 0;
}

class Driven : public testing::Test {
protected:
    void SetUp() override {
        if (!have_desktop_tools()) GTEST_SKIP() << "needs vkqat-app, Xvfb and xdotool (tools/setup --tests)";
        stories = test::data_folder() / "stories260K";
        if (!fs::exists(stories / "config.json")) GTEST_SKIP() << "no " << stories << ": set VKQAT_DATA";
        desktop = std::make_unique<Desktop>();
    }
    void add_models_by_dialog() {
        desktop->key("ctrl+o");
        ASSERT_TRUE(desktop->wait_for_text("Add a folder with models"));
        desktop->key("ctrl+a");
        desktop->type(stories.string());
        desktop->key("Return");
        ASSERT_TRUE(desktop->click("Choose"));
    }
    void ask(const std::string& text) {
        ASSERT_TRUE(desktop->click("Message"));
        desktop->type(text);
        desktop->key("Return");
    }
    double cpu_seconds() const {
        std::istringstream stat(text_of("/proc/" + std::to_string(desktop->pid()) + "/stat"));
        std::string word;
        double ticks = 0;
        for (int i = 1; i <= 15 && stat >> word; i++)
            if (i >= 14) ticks += std::stod(word);
        return ticks / double(::sysconf(_SC_CLK_TCK));
    }
    // The interface's thread was never kept for longer than 16 ms by a frame, without its presentation. On the clock a frame also
    // holds the time in which other programs had all processors, of which a machine with two cores that builds and tests has
    // much; the kernel counts that time for each thread, and it is taken off (app/ui/frame_watch.h). What is left is the thread's
    // work, its waiting for locks, files and devices. Submitting the drawing is the driver's: lavapipe, which draws on the same
    // cores, sometimes keeps it waiting for a lock of its threads (10 ms were seen), so it has a wider bound of its own.
    void expect_fluid() const {
        const json frames = desktop->screen()["frames"];
        EXPECT_GT(frames["count"], 30);
        EXPECT_LT(frames["own_longest_ms"].get<double>(), 16) << frames.dump(1);
        EXPECT_LT(frames["submit_longest_ms"].get<double>(), 48) << frames.dump(1);
    }
    fs::path stories;
    std::unique_ptr<Desktop> desktop;
};

}  // namespace vkqat

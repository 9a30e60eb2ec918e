// What the desktop prefers.
#pragma once

#include <functional>
#include <thread>

namespace vkqat {

// Whether the desktop asks for dark windows: its settings portal, else GNOME's and GTK's settings; dark where none says anything.
// Asks other programs, which may take a second: not on the interface's thread.
bool system_prefers_dark();

// Asks on a thread of its own, and again whenever the desktop says that it has changed its mind (gdbus and gsettings listen, as
// processes that sleep). `changed` is called from that thread.
class AppearanceWatch {
public:
    explicit AppearanceWatch(std::function<void(bool dark)> changed);
    ~AppearanceWatch();
    AppearanceWatch(const AppearanceWatch&) = delete;
    AppearanceWatch& operator=(const AppearanceWatch&) = delete;

private:
    void run();
    std::function<void(bool)> changed_;
    int stop_[2] = {-1, -1};  // a pipe: closing it ends the thread
    std::thread thread_;
};

}  // namespace vkqat

// vkqat-app: the window, its loop, the command line.
#include <CLI/CLI.hpp>

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>
#include <imgui.h>
#include <imgui_impl_glfw.h>
#include <imgui_internal.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <ctime>
#include <thread>

#include "app/core/appearance.h"
#include "app/core/png.h"
#include "app/ui/app.h"
#include "app/ui/renderer.h"
#include "app/ui/screen_dump.h"
#include "app/ui/widgets.h"
#include "runtime/support/clock.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

struct Options {
    std::string model, view, screenshot, dump, theme, size;
    double scale = 0;
};

constexpr double wake_interval = 0.03;  // between frames that only the engines ask for

// SIGINT and SIGTERM end the program as closing its window does. They are blocked in all threads but one, which waits for them: a
// handler could not wake the loop.
class Signals {
public:
    Signals() {
        sigemptyset(&set_);
        sigaddset(&set_, SIGINT);
        sigaddset(&set_, SIGTERM);
        ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
        thread_ = std::thread([this] {
            for (int signal; ::sigwait(&set_, &signal) == 0 && !leaving_;) {
                came_ = true;
                glfwPostEmptyEvent();
            }
        });
    }
    ~Signals() {
        leaving_ = true;
        ::pthread_kill(thread_.native_handle(), SIGTERM);
        thread_.join();
    }
    bool came() const { return came_; }

private:
    sigset_t set_{};
    std::atomic<bool> came_ = false, leaving_ = false;
    std::thread thread_;
};

struct Glfw {
    Glfw() {
        glfwSetErrorCallback([](int, const char* text) { std::fprintf(stderr, "vkqat-app: %s\n", text); });
        if (!glfwInit()) fail("no window can be opened: is there a display (DISPLAY or WAYLAND_DISPLAY)?");
    }
    ~Glfw() { glfwTerminate(); }
};

struct Window {
    Window(int width, int height, float scale) {
        glfwWindowHint(GLFW_CLIENT_API, GLFW_NO_API);
        glfwWindowHint(GLFW_SCALE_TO_MONITOR, GLFW_TRUE);
        glfwWindowHintString(GLFW_X11_CLASS_NAME, "vkqat-app");
        glfwWindowHintString(GLFW_X11_INSTANCE_NAME, "vkqat-app");
        handle = glfwCreateWindow(int(float(width) * scale), int(float(height) * scale), "vkqat", nullptr, nullptr);
        if (!handle) fail("the window cannot be opened");
        glfwSetWindowSizeLimits(handle, 420, 320, GLFW_DONT_CARE, GLFW_DONT_CARE);
    }
    ~Window() { glfwDestroyWindow(handle); }
    GLFWwindow* handle;
};

struct Context {
    Context() {
        ImGui::CreateContext();
        ImGuiIO& io = ImGui::GetIO();
        io.IniFilename = nullptr;
        io.ConfigFlags |= ImGuiConfigFlags_NavEnableKeyboard;
        io.ConfigInputTextCursorBlink = false;  // an idle window draws nothing
        io.ConfigNavCursorVisibleAlways = false;
    }
    ~Context() { ImGui::DestroyContext(); }
};

struct Backend {
    explicit Backend(GLFWwindow* window) { ImGui_ImplGlfw_InitForVulkan(window, true); }
    ~Backend() { ImGui_ImplGlfw_Shutdown(); }
};

// Where a key and the release of its modifier come between two frames, Dear ImGui sees the key without it. So what follows a key
// is held back from that release on, until the next frame.
class HeldInput {
public:
    void hold() {
        ImVector<ImGuiInputEvent>& queue = ImGui::GetCurrentContext()->InputEventsQueue;
        bool key = false;
        for (int i = 0; i < queue.Size; i++) {
            if (queue[i].Type != ImGuiInputEventType_Key) continue;
            const bool modifier = queue[i].Key.Key & ImGuiMod_Mask_;
            if (key && modifier && !queue[i].Key.Down) {
                for (int k = i; k < queue.Size; k++) held_.push_back(queue[k]);
                queue.resize(i);
                return;
            }
            key |= !modifier && queue[i].Key.Down;
        }
    }
    // Before new events come. True if there were any.
    bool give_back() {
        for (const ImGuiInputEvent& event : held_) ImGui::GetCurrentContext()->InputEventsQueue.push_back(event);
        const bool any = !held_.empty();
        held_.clear();
        return any;
    }

private:
    std::vector<ImGuiInputEvent> held_;
};

void run(const Options& o) {
    Glfw glfw;
    Signals signals;
    AppOptions app_options{o.model, o.view, [] { glfwPostEmptyEvent(); }};
    Context context;
    App app(app_options);
    app.for_this_time(o.theme, o.scale);
    int width = app.settings.width, height = app.settings.height;
    if (!o.size.empty() && std::sscanf(o.size.c_str(), "%dx%d", &width, &height) != 2)
        throw UsageError("--size: expected WIDTHxHEIGHT");
    Window window(width, height, o.size.empty() && o.scale > 0 ? float(o.scale) : 1);
    float scale_x = 1, scale_y = 1;
    glfwGetWindowContentScale(window.handle, &scale_x, &scale_y);
    app.display_scale = std::max(scale_x, scale_y);
    app.theme.load_fonts();
    app.set_theme();
    Backend backend(window.handle);
    Renderer renderer(window.handle);

    glfwSetWindowUserPointer(window.handle, &app);
    glfwSetDropCallback(window.handle, [](GLFWwindow* handle, int count, const char** paths) {
        static_cast<App*>(glfwGetWindowUserPointer(handle))->dropped({paths, paths + count});
    });
    glfwSetWindowContentScaleCallback(window.handle, [](GLFWwindow* handle, float x, float y) {
        App& a = *static_cast<App*>(glfwGetWindowUserPointer(handle));
        a.display_scale = std::max(x, y);
        a.set_theme();
    });
    std::atomic<int> dark = -1;  // what the desktop prefers, once it is known
    AppearanceWatch appearance([&dark](bool now) {
        dark = now;
        glfwPostEmptyEvent();
    });

    HeldInput held;
    ui::Screen screen;
    ui::watch(o.dump.empty() ? nullptr : &screen);
    FrameWatch watch;
    if (!o.dump.empty()) renderer.watch = &watch;
    std::string dumped;
    int wanted = 3, settled = 0;
    Clock::time_point last = Clock::now(), started = last;
    while (!glfwWindowShouldClose(window.handle) && !app.quit && !signals.came()) {
        if (held.give_back()) wanted = std::max(wanted, 1);
        if (wanted > 0 || !o.screenshot.empty()) {
            glfwPollEvents();
        } else if (const double wait = app.wake_after(); wait >= 0) {
            glfwWaitEventsTimeout(wait);
        } else {
            glfwWaitEvents();
        }
        if (!ImGui::GetCurrentContext()->InputEventsQueue.empty()) {
            wanted = 3;  // widgets answer in the frame after, and what opens then settles
        } else if (wanted <= 0) {
            // What only the engines ask for comes not too often, but a key or a click is answered at once.
            for (double early;
                 (early = wake_interval - seconds_since(last)) > 0 && ImGui::GetCurrentContext()->InputEventsQueue.empty();)
                glfwWaitEventsTimeout(early);
            wanted = ImGui::GetCurrentContext()->InputEventsQueue.empty() ? 2 : 3;
        }
        held.hold();
        if (dark >= 0 && app.system_dark != bool(dark.load())) app.system_dark = dark, app.set_theme();
        last = Clock::now();
        renderer.new_frame();
        ImGui_ImplGlfw_NewFrame();  // asks the display server for the window's size, and waits for it
        watch.begin();
        screen.widgets.clear();
        screen.notes.clear();
        ImGui::NewFrame();
        watch.part("widgets");
        const ImVec2 size = ImGui::GetIO().DisplaySize;
        app.frame(size.x, size.y);
        watch.part("lists of triangles");
        ImGui::Render();
        watch.part("drawing");
        const ImVec4 back = to_vec(app.theme.colors.background);
        const float background[3] = {back.x, back.y, back.z};
        // A screenshot is taken when nothing is under way any more.
        const EngineStatus status = app.state(0).status;
        const bool quiet = status != EngineStatus::loading && !app.library.scanning() && seconds_since(started) > 0.5;
        settled = quiet ? settled + 1 : 0;
        if (!o.screenshot.empty() && settled == 12) {
            if (!renderer.can_copy()) fail("this surface cannot be copied: no screenshot");
            renderer.request_picture(0, 0, int(size.x), int(size.y));
        }
        if (app.capture && app.capture->frames > 0 && --app.capture->frames == 0) {
            const Capture& c = *app.capture;
            if (renderer.can_copy())
                renderer.request_picture(int(c.low.x), int(c.low.y), int(c.high.x - c.low.x), int(c.high.y - c.low.y));
            else
                app.capture.reset(), app.say("This surface cannot be copied: save the plot as SVG", true);
        }
        const bool drawn = renderer.draw(ImGui::GetDrawData(), background);
        if (auto picture = renderer.picture()) {
            if (app.capture) app.captured(picture->width, picture->height, std::move(picture->rgb));
            if (!o.screenshot.empty()) {
                write_png(o.screenshot, picture->width, picture->height, picture->rgb);
                break;
            }
        }
        wanted = drawn && !app.animating() ? wanted - 1 : 2;
        watch.end();
        if (!o.dump.empty() && wanted <= 0) {
            std::string text = screen_to_json(screen, view_name(app.view), watch.times(), renderer.submissions(),
                                              renderer.losses(), app.theme.colors.dark);
            if (text != dumped) write_text_file(o.dump, text), dumped = std::move(text);
        }
        if (o.size.empty() && o.scale <= 0) app.settings.width = int(size.x), app.settings.height = int(size.y);
    }
    if (o.screenshot.empty()) app.finish();
}

}  // namespace
}  // namespace vkqat

int main(int argc, char** argv) {
    vkqat::Options o;
    CLI::App cli("The desktop program of vkqat: talk to quantized models, see what they cost, watch trainings.", "vkqat-app");
    cli.set_version_flag("--version", "vkqat-app " VKQAT_VERSION);
    cli.add_option("--model", o.model, "model to load at once: a directory or a .gguf file")->type_name("MODEL");
    cli.add_option("--view", o.view, "view to begin with: chat, models, profile, quality, training, settings")->type_name("VIEW");
    cli.add_option("--theme", o.theme, "system, light or dark, for this time")
        ->check(CLI::IsMember({"system", "light", "dark"}))
        ->type_name("THEME");
    cli.add_option("--scale", o.scale, "size of everything, 0.5 to 4, for this time")
        ->check(CLI::Range(0.5, 4.0))
        ->type_name("FACTOR");
    cli.add_option("--size", o.size, "size of the window in pixels")->type_name("WIDTHxHEIGHT");
    cli.add_option("--screenshot", o.screenshot, "write a PNG of the window once nothing is being loaded any more, and end")
        ->type_name("FILE");
    cli.add_option("--dump-widgets", o.dump, "keep a JSON file with all widgets and texts on the screen, for tests")
        ->type_name("FILE");
    cli.footer(
        "Keys: F1 shows them all, Ctrl+K finds every command.\n"
        "Settings lie in $XDG_CONFIG_HOME/vkqat, conversations in $XDG_DATA_HOME/vkqat (~/.config and ~/.local/share).");
    try {
        cli.parse(argc, argv);
        vkqat::run(o);
    } catch (const CLI::ParseError& e) {
        return cli.exit(e) == 0 ? 0 : 2;
    } catch (const vkqat::UsageError& e) {
        std::fprintf(stderr, "vkqat-app: %s\n", e.what());
        return 2;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vkqat-app: %s\n", e.what());
        return 1;
    }
    return 0;
}

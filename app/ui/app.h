// The program behind the window: its models, conversations and settings, and the views on them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/core/chats.h"
#include "app/core/engine.h"
#include "app/core/library.h"
#include "app/core/settings.h"
#include "app/core/store.h"
#include "app/ui/theme.h"

namespace vkqat {

enum class View { chat, models, profile, quality, training, settings };
inline constexpr int view_count = 6;
const char* view_name(View view);

struct Toast {
    std::string text;
    std::function<void()> undo;  // with a button, where there is one
    double until;
    bool bad = false;
};

// A part of the window that becomes a file, a few frames later: when the dialog that asked for it has gone.
struct Capture {
    ImVec2 low, high;
    std::filesystem::path file;
    int frames = 4;
};

// A thing that can be done, by palette and by key.
struct Command {
    const char* name;
    const char* keys;  // as the sheet shows them; empty: only in the palette
    ImGuiKeyChord chord;
    std::function<void()> run;
};

struct AppOptions {
    std::string model;  // to load at once
    std::string view;
    std::function<void()> wake;  // asks for a frame, from any thread
};

class ChatView;
class ModelsView;
class ProfileView;
class QualityView;
class TrainingView;
class SettingsView;
class FileDialog;

class App {
public:
    explicit App(const AppOptions& options);
    ~App();

    void frame(float width, float height);  // one frame of the whole interface
    bool animating() const;                 // whether the next frame is wanted without an event
    double wake_after() const;              // seconds until a frame is wanted, or a negative number
    void dropped(const std::vector<std::string>& paths);
    void finish();  // before the program ends: stops and saves
    // From the command line: not saved, as long as nobody chooses another. "" and 0: as in the settings.
    void for_this_time(const std::string& theme_name, double scale);

    // ---- shared by the views
    Theme theme;
    Settings settings;
    Store store;
    Library library;
    Engine engines[2];
    Chats chats;
    View view = View::chat;

    void say(std::string text, bool bad = false, std::function<void()> undo = {});
    void save_settings();
    std::vector<Preset> presets;  // the user's own
    void save_presets();
    void load_model(const std::filesystem::path& model, int engine = 0);
    void add_to_library(const std::filesystem::path& path);
    void open_dialog(const char* title, bool folders, std::string extension,
                     std::function<void(const std::filesystem::path&)> done);
    std::vector<int> answering() const;  // the engines that answer: one, or two side by side
    bool ready(int engine) const { return state(engine).status == EngineStatus::ready; }
    const EngineState& state(int engine) const { return states_[engine]; }
    std::optional<Capture> capture;
    void captured(uint32_t width, uint32_t height, std::vector<uint8_t> rgb);  // what `capture` asked for is there
    void set_theme();                                                          // after a change of the settings
    double time() const;
    float display_scale = 1;
    bool system_dark = true, quit = false;

private:
    void navigation(float height);
    void toasts(float width, float height);
    void shortcuts();
    void command_palette(float width, float height);
    void shortcut_sheet();
    std::vector<Command> commands();

    struct Look {
        std::string theme;
        double scale = 0;
    };
    std::optional<std::pair<Look, Look>> given_;  // of the command line, and the settings' in its place
    EngineState states_[2];
    std::vector<Toast> toasts_;
    std::string palette_query_;
    bool palette_open_ = false, palette_opened_ = false, sheet_open_ = false;
    int palette_at_ = 0;
    std::unique_ptr<ChatView> chat_;
    std::unique_ptr<ModelsView> models_;
    std::unique_ptr<ProfileView> profile_;
    std::unique_ptr<QualityView> quality_;
    std::unique_ptr<TrainingView> training_;
    std::unique_ptr<SettingsView> settings_view_;
    std::unique_ptr<FileDialog> dialog_;
};

}  // namespace vkqat

#include "app/ui/chat_view.h"

#include <algorithm>
#include <cmath>
#include <ctime>

#include "app/core/soft_wrap.h"
#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

constexpr float column_width = 760;  // of the text, in the design's pixels

std::string stats_text(const AnswerStats& s) {
    std::string text;
    auto add = [&](std::string part) { text += (text.empty() ? "" : "  ·  ") + part; };
    if (s.tokens_per_second > 0) add(human_rate(s.tokens_per_second) + " tokens/s");
    if (s.tokens > 0) add(with_commas(s.tokens) + (s.tokens == 1 ? " token" : " tokens"));
    if (s.first_token_seconds > 0) add("first after " + human_duration(s.first_token_seconds));
    if (s.cached_tokens > 0)
        add(fmt::format("{} of {} prompt tokens reused", with_commas(s.cached_tokens), with_commas(s.prompt_tokens)));
    if (s.device_bytes > 0) add(human_bytes(double(s.device_bytes)));
    if (s.end == "stopped") add("stopped");
    if (s.end == "length") add("length limit reached");
    if (s.end == "context") add("context full");
    return text;
}

bool failed(const AnswerStats& s) { return !s.end.empty() && s.end != "stopped" && s.end != "length" && s.end != "context"; }

std::string when(int64_t seconds) {
    const std::time_t time = seconds, today = std::time(nullptr);
    std::tm then{}, now{};
    ::localtime_r(&time, &then);
    ::localtime_r(&today, &now);
    if (then.tm_year == now.tm_year && then.tm_yday == now.tm_yday) return fmt::format("{:02}:{:02}", then.tm_hour, then.tm_min);
    return fmt::format("{:04}-{:02}-{:02}", then.tm_year + 1900, then.tm_mon + 1, then.tm_mday);
}

}  // namespace

ChatView::ChatView(App& app) : app_(app) {}

void ChatView::new_chat() {
    app_.view = View::chat;
    // An empty conversation that is there already serves.
    Conversation* c = current();
    if (!c || !c->messages.empty()) {
        ChatSettings settings = c ? c->settings : ChatSettings{};
        c = &app_.chats.create(settings, app_.state(0).model.string());
    }
    open(c->id);
}

void ChatView::open(const std::string& id) {
    const std::string draft = without_soft_breaks(input_);
    if (Conversation* old = app_.chats.find(shown_); old && old->draft != draft) {
        old->draft = draft;
        app_.chats.changed(*old);
    }
    app_.settings.conversation = id;
    app_.save_settings();
    editing_ = -1;
    at_end_ = focus_input_ = true;
    texts_.clear();
    heights_.clear();
    Conversation* c = app_.chats.find(id);
    input_ = c ? c->draft : "";
    shown_ = id;
}

void ChatView::stop() {
    if (Conversation* c = current()) app_.chats.stop(*c);
}

void ChatView::regenerate_last() {
    Conversation* c = current();
    if (!c || app_.chats.generating(*c) || !app_.ready(0)) return;
    const std::vector<int> path = c->path();
    if (!path.empty() && c->messages[size_t(path.back())].role == Role::assistant)
        app_.chats.regenerate(*c, path.back(), app_.answering());
    at_end_ = true;
}

void ChatView::continue_last() {
    Conversation* c = current();
    if (!c || app_.chats.generating(*c) || !app_.ready(0)) return;
    const std::vector<int> path = c->path();
    if (!path.empty() && c->messages[size_t(path.back())].role == Role::assistant) app_.chats.continue_answer(*c, path.back(), 0);
}

void ChatView::copy_last() {
    Conversation* c = current();
    if (!c || c->path().empty()) return;
    ImGui::SetClipboardText(c->messages[size_t(c->path().back())].content.c_str());
    app_.say("Copied");
}

void ChatView::delete_current() {
    Conversation* c = current();
    if (!c) return;
    const std::string title = c->shown_title();
    app_.chats.remove(c->id);
    shown_.clear();
    const std::vector<Conversation*> list = app_.chats.sorted();
    open(list.empty() ? "" : list.front()->id);
    app_.say(fmt::format("Deleted “{}”", title), false, [this] {
        if (Conversation* back = app_.chats.undo_remove()) open(back->id);
    });
}

void ChatView::next(int step) {
    const std::vector<Conversation*> list = app_.chats.sorted();
    if (list.empty()) return;
    int at = 0;
    for (size_t i = 0; i < list.size(); i++)
        if (list[i]->id == app_.settings.conversation) at = int(i) + step;
    open(list[size_t(std::clamp(at, 0, int(list.size()) - 1))]->id);
}

void ChatView::export_current(bool markdown) {
    Conversation* c = current();
    if (!c) return;
    const std::string text = markdown ? to_markdown(*c) : to_json(*c);
    std::string name = c->shown_title();
    for (char& ch : name)
        if (ch == '/' || ch == '\0') ch = '-';
    while (name.starts_with('.')) name.erase(0, 1);
    if (name.size() > 80) name = c->id;
    const char* ending = markdown ? ".md" : ".json";
    app_.open_dialog(markdown ? "Export as Markdown into…" : "Export as JSON into…", true, "",
                     [this, text, name, ending](const std::filesystem::path& folder) {
                         std::filesystem::path file = folder / (name + ending);
                         std::error_code error;
                         for (int i = 2; std::filesystem::exists(file, error); i++)
                             file = folder / fmt::format("{} {}{}", name, i, ending);
                         app_.store.write(file, text);
                         app_.say("Exported to " + file.string());
                     });
}

void ChatView::import() {
    app_.open_dialog("Import a conversation", false, ".json", [this](const std::filesystem::path& file) {
        try {
            open(app_.chats.import(file).id);
            app_.say("Imported " + file.filename().string());
        } catch (const std::exception& e) {
            app_.say(e.what(), true);
        }
    });
}

void ChatView::send() {
    const std::string written = without_soft_breaks(input_);
    const size_t begin = written.find_first_not_of(" \t\n"), end = written.find_last_not_of(" \t\n");
    if (begin == written.npos) return;
    if (!app_.ready(0)) {
        app_.say(app_.state(0).status == EngineStatus::loading ? "The model is still being loaded"
                                                               : "Load a model first: Models, or the picker at the top",
                 true);
        return;
    }
    Conversation* c = current();
    if (c && app_.chats.generating(*c)) return;
    if (!c) {
        c = &app_.chats.create({}, app_.state(0).model.string());
        app_.settings.conversation = shown_ = c->id;
        app_.save_settings();
    }
    const std::string text = written.substr(begin, end - begin + 1);
    input_.clear();
    c->model = app_.state(0).model.string();
    app_.chats.send(*c, text, app_.answering());
    at_end_ = true;
}

void ChatView::draw(ImVec2 size) {
    Theme& t = app_.theme;
    if (shown_ != app_.settings.conversation) open(app_.settings.conversation);
    const bool narrow = size.x < t.px(760);
    if (app_.settings.sidebar && !narrow) {
        sidebar(t.px(264));
        ImGui::SameLine(0, 0);
    }
    Conversation* c = current();
    const float panel = app_.settings.chat_panel && c && !narrow ? t.px(300) : 0;
    const ImVec2 left = ImGui::GetContentRegionAvail();
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::BeginChild("conversation", {left.x - panel, size.y}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    header(c);
    selected_text_.clear();
    const float composer_height =
        t.px(58) + t.size * t.scale * 1.5f * float(std::min<ptrdiff_t>(8, 1 + std::count(input_.begin(), input_.end(), '\n')));
    const float height = ImGui::GetContentRegionAvail().y - composer_height;
    if (c && !c->messages.empty()) {
        messages(*c, height);
    } else {
        ImGui::BeginChild("welcome", {0, height});
        welcome();
        ImGui::EndChild();
    }
    composer(c, ImGui::GetContentRegionAvail().x);
    ImGui::EndChild();
    if (panel > 0) {
        ImGui::SameLine(0, 0);
        settings_panel(*c);
    }
    if (!selected_text_.empty() && !ImGui::GetIO().WantTextInput &&
        ImGui::Shortcut(ImGuiMod_Ctrl | ImGuiKey_C, ImGuiInputFlags_RouteGlobal))
        ImGui::SetClipboardText(selected_text_.c_str());
}

void ChatView::sidebar(float width) {
    Theme& t = app_.theme;
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(12), t.px(12)));
    ImGui::BeginChild("conversations", {width, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    if (ui::primary_button(t, icon::plus, "New chat", {ImGui::GetContentRegionAvail().x, t.px(36)})) new_chat();
    ui::hint(t, "Ctrl+N");
    if (focus_search_) ImGui::SetKeyboardFocusHere();
    focus_search_ = false;
    if (ui::input("##Search", "Search all chats", search_)) app_.chats.search(search_);
    ImGui::Dummy({0, t.px(2)});
    if (!search_.empty()) app_.chats.search_step(0.004);

    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(t.px(6), t.px(2)));
    ImGui::BeginChild("list", {0, 0});
    std::vector<Conversation*> list = app_.chats.sorted();
    if (!search_.empty())
        std::erase_if(list, [&](Conversation* c) {
            return std::find(app_.chats.hits().begin(), app_.chats.hits().end(), c->id) == app_.chats.hits().end();
        });
    if (list.empty()) {
        ImGui::Dummy({0, t.px(8)});
        ui::small(t, t.colors.faint, search_.empty() ? "No chats yet" : "Nothing found");
    }
    ImGuiListClipper clipper;
    clipper.Begin(int(list.size()), t.px(36) + ImGui::GetStyle().ItemSpacing.y);
    std::string to_open;
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; i++)
            conversation_row(*list[size_t(i)], ImGui::GetContentRegionAvail().x);
    ImGui::EndChild();
    ImGui::PopStyleVar(2);
    ImGui::EndChild();
    ImGui::PopStyleColor();
}

void ChatView::conversation_row(Conversation& c, float width) {
    Theme& t = app_.theme;
    ImGui::PushID(c.id.c_str());
    const ImVec2 at = ImGui::GetCursorScreenPos();
    const float height = t.px(36);
    const bool selected = c.id == app_.settings.conversation;
    const std::string id = c.id;
    if (renaming_ == c.id) {
        if (focus_rename_) ImGui::SetKeyboardFocusHere();
        focus_rename_ = false;
        const bool done = ui::input("##Rename", "Title", rename_text_,
                                    ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_AutoSelectAll);
        if (done || ImGui::IsItemDeactivated()) {
            if (!ImGui::IsKeyPressed(ImGuiKey_Escape)) {
                c.title = rename_text_;
                c.titled = !rename_text_.empty();
                app_.chats.changed(c);
            }
            renaming_.clear();
        }
        ImGui::PopID();
        return;
    }
    const std::string title = c.shown_title();
    ImGui::SetNextItemAllowOverlap();
    if (ImGui::InvisibleButton((title + "##row").c_str(), {width, height}, ImGuiButtonFlags_EnableNav)) open(id);
    const bool hovered = ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenBlockedByActiveItem) || ImGui::IsItemFocused();
    if (ImGui::IsItemHovered() && ImGui::IsMouseDoubleClicked(0)) renaming_ = c.id, rename_text_ = title, focus_rename_ = true;
    const bool menu = ImGui::IsPopupOpen("menu");
    ImDrawList* draw = ImGui::GetWindowDrawList();
    if (selected || hovered || menu)
        draw->AddRectFilled(at, {at.x + width, at.y + height}, selected ? t.colors.hover : with_alpha(t.colors.hover, 0.6f),
                            t.px(6));
    const float size = t.size * t.scale * 0.95f, right = hovered || menu || selected ? t.px(34) : t.px(10);
    float x = at.x + t.px(10);
    if (c.pinned) {
        draw->AddText(t.fonts.regular, size * 0.85f, {x, at.y + (height - size * 0.85f) / 2}, t.colors.accent, icon::pin);
        x += t.px(18);
    }
    const std::string shown = ui::shortened(t.fonts.regular, size, title, at.x + width - right - x);
    draw->AddText(t.fonts.regular, size, {x, at.y + (height - size) / 2 - t.px(1)}, selected ? t.colors.text : t.colors.dim,
                  shown.c_str());
    if (app_.chats.generating(c)) draw->AddCircleFilled({at.x + width - t.px(42), at.y + height / 2}, t.px(3), t.colors.accent);
    if (hovered || menu || selected) {
        const ImVec2 after = ImGui::GetCursorScreenPos();
        ImGui::SetCursorScreenPos({at.x + width - t.px(32), at.y + t.px(4)});
        if (ui::icon_button(t, icon::more, "More", menu, 28)) ImGui::OpenPopup("menu");
        ImGui::SetCursorScreenPos(after);
        ImGui::Dummy({0, 0});
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(8), t.px(8)));
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(t.px(8), t.px(8)));
    if (ImGui::BeginPopup("menu")) {
        if (ImGui::MenuItem("Rename")) renaming_ = c.id, rename_text_ = title, focus_rename_ = true;
        if (ImGui::MenuItem(c.pinned ? "Unpin" : "Pin")) {
            c.pinned = !c.pinned;
            app_.chats.changed(c);
        }
        if (ImGui::MenuItem("Duplicate")) open(app_.chats.duplicate(c).id);
        if (ImGui::MenuItem("Export as Markdown")) open(id), export_current(true);
        if (ImGui::MenuItem("Export as JSON")) open(id), export_current(false);
        ImGui::Separator();
        if (ImGui::MenuItem("Delete")) {
            open(id);
            delete_current();
        }
        ImGui::EndPopup();
    }
    ImGui::PopStyleVar(2);
    ImGui::PopID();
}

void ChatView::model_picker(int engine) {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(engine);
    ImGui::PushID(engine);
    const char* name = s.status == EngineStatus::empty ? "Choose a model" : s.name.c_str();
    const std::string label = fmt::format("{}  {}  {}##model{}", icon::models,
                                          ui::shortened(t.fonts.regular, t.size * t.scale, name, t.px(240)), icon::down, engine);
    if (s.status == EngineStatus::loading) {
        ImGui::AlignTextToFramePadding();
        ui::text(t, t.colors.dim, fmt::format("Loading {}", ui::shortened(t.fonts.regular, t.size * t.scale, s.name, t.px(200))));
        ImGui::SameLine();
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() + t.px(13));
        ui::meter(t, float(s.progress), t.colors.accent, {t.px(90), t.px(5)});
        ImGui::SameLine();
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() - t.px(13));
        if (ui::ghost_button(t, icon::close, "Cancel")) app_.engines[engine].cancel_load();
    } else {
        if (ui::button(t, nullptr, label.c_str(), {0, t.px(34)})) ImGui::OpenPopup("models");
        if (s.status == EngineStatus::failed) {
            ImGui::SameLine();
            ImGui::AlignTextToFramePadding();
            ui::text(t, t.colors.bad, icon::warning);
            ui::hint(t, s.message);
        }
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(10), t.px(10)));
    ImGui::SetNextWindowSizeConstraints({t.px(380), 0}, {t.px(560), t.px(480)});
    if (ImGui::BeginPopup("models")) {
        const std::vector<ModelEntry> models = app_.library.models();
        if (models.empty()) ui::wrapped(t, t.colors.dim, "The library is empty. Add a folder with models under Models.");
        for (const ModelEntry& model : models) {
            if (!model.error.empty()) continue;
            ImGui::PushID(model.path.c_str());
            const bool loaded = s.status == EngineStatus::ready && s.model == model.path;
            if (ImGui::Selectable((model.name + "##pick").c_str(), loaded)) app_.load_model(model.path, engine);
            ImGui::SameLine(ui::right_edge() - t.px(150));
            ui::small(t, t.colors.dim,
                      fmt::format("{} {:.3g} bits · {}", model.method, model.bits, human_bytes(double(model.bytes))));
            ImGui::PopID();
        }
        ImGui::Separator();
        if (ImGui::MenuItem("Manage models…")) app_.view = View::models;
        if (s.status == EngineStatus::ready && ImGui::MenuItem("Unload")) app_.engines[engine].unload();
        ImGui::EndPopup();
    }
    ImGui::PopStyleVar();
    ImGui::PopID();
}

void ChatView::header(Conversation* c) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(12), t.px(9)));
    ImGui::BeginChild("header", {0, t.px(52)}, ImGuiChildFlags_AlwaysUseWindowPadding, ImGuiWindowFlags_NoScrollbar);
    ImGui::PopStyleVar();
    if (ui::icon_button(t, icon::panel, "Side bar", app_.settings.sidebar, 34))
        app_.settings.sidebar = !app_.settings.sidebar, app_.save_settings();
    ImGui::SameLine();
    model_picker(0);
    ImGui::SameLine();
    if (app_.settings.compare) {
        model_picker(1);
        ImGui::SameLine();
    }
    // On the right: how full the context is, and what can be switched on.
    const EngineState& s = app_.state(0);
    const float right = t.px(2 * 42) + (s.status == EngineStatus::ready && c ? t.px(140) : 0);
    ImGui::SetCursorPosX(std::max(ImGui::GetCursorPosX(), ImGui::GetWindowWidth() - right - t.px(8)));
    if (s.status == EngineStatus::ready && c) {
        int64_t used = 0;
        for (int at : c->path()) {
            const AnswerStats& stats = c->messages[size_t(at)].stats;
            if (stats.prompt_tokens > 0) used = std::min(s.context, stats.prompt_tokens + stats.tokens);
        }
        const float share = s.context ? float(used) / float(s.context) : 0, y = ImGui::GetCursorPosY();
        ImGui::SetCursorPosY(y + t.px(8));
        ui::small(t, t.colors.dim, human_count(double(used)) + " / " + human_count(double(s.context)));
        ui::hint(t, fmt::format("Context: {} of {} tokens", with_commas(used), with_commas(s.context)));
        ui::note("context", fmt::format("{}/{}", used, s.context));
        ImGui::SameLine();
        ImGui::SetCursorPosY(y + t.px(15));
        ui::meter(t, share, share > 0.9f ? t.colors.bad : share > 0.8f ? t.colors.warn : t.colors.accent, {t.px(44), t.px(5)});
        ImGui::SameLine();
        ImGui::SetCursorPosY(y);
        ImGui::SetCursorPosX(ImGui::GetWindowWidth() - t.px(2 * 42) - t.px(4));
    }
    if (ui::icon_button(t, icon::clone, "Two models side by side", app_.settings.compare, 34))
        app_.settings.compare = !app_.settings.compare, app_.save_settings();
    ImGui::SameLine();
    if (ui::icon_button(t, icon::sliders, "Settings of this chat", app_.settings.chat_panel, 34)) {
        app_.settings.chat_panel = !app_.settings.chat_panel;
        if (app_.settings.chat_panel && !c) new_chat();
        app_.save_settings();
    }
    ImGui::EndChild();
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::GetWindowDrawList()->AddLine({at.x, at.y - t.px(8)}, {at.x + ImGui::GetContentRegionAvail().x, at.y - t.px(8)},
                                        t.colors.border, t.px(1));
}

void ChatView::messages(Conversation& c, float height) {
    Theme& t = app_.theme;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(24), t.px(8)));
    ImGui::BeginChild("messages", {0, height}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float room = ImGui::GetContentRegionAvail().x,
                width = std::min(room, t.px(app_.settings.compare ? 1200 : column_width));
    const float left = ImGui::GetCursorPosX() + (room - width) / 2;
    const std::vector<int> path = c.path();
    const float top = ImGui::GetScrollY(), bottom = top + height;
    for (size_t i = 0; i < path.size(); i++) {
        const int at = path[i];
        ImGui::SetCursorPosX(left);
        const float y = ImGui::GetCursorPosY();
        auto& [known_width, known_height] = heights_[at];
        const bool last = i + 1 == path.size();
        // What is far away and known stands as an empty place.
        if (known_width == width && editing_ != at && !last && (y + known_height < top - height || y > bottom + height)) {
            ImGui::Dummy({width, known_height});
        } else {
            ImGui::PushID(at);
            ImGui::BeginGroup();
            message(c, at, width, last);
            ImGui::EndGroup();
            ImGui::PopID();
            known_width = width;
            known_height = ImGui::GetItemRectSize().y;
        }
        ImGui::Dummy({0, t.px(10)});
    }
    // The end stays in sight while an answer grows, unless somebody scrolls up.
    if (ImGui::GetIO().MouseWheel > 0 && ImGui::IsWindowHovered(ImGuiHoveredFlags_ChildWindows)) at_end_ = false;
    if (ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - t.px(4)) at_end_ = true;
    if (at_end_ && (app_.chats.generating(c) || ImGui::GetScrollY() < ImGui::GetScrollMaxY())) ImGui::SetScrollHereY(1);
    ImGui::EndChild();
}

void ChatView::answer_body(Conversation& c, int at, float width) {
    Theme& t = app_.theme;
    Message& m = c.messages[size_t(at)];
    const Chats::Generation* g = app_.chats.generation(c, at);
    if (m.content.empty() && g) {
        const bool waiting = g->seen.prompt_progress <= 0;
        ui::text(t, t.colors.dim,
                 waiting ? "Waiting…" : fmt::format("Reading the prompt, {:.0f} %", 100 * g->seen.prompt_progress));
    } else if (m.content.empty() && !failed(m.stats)) {
        ui::text(t, t.colors.faint, "(empty)");
    } else if (!m.content.empty()) {
        RichText& text = texts_[{c.id, at}];
        text.set_text(m.content);
        text.set_highlight(search_);
        if (text.draw(t, width)) selected_text_ = text.selected();
        ui::note("assistant", m.content);
    }
    if (failed(m.stats)) {
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + width);
        ui::text(t, t.colors.bad, std::string(icon::warning) + "  " + m.stats.end);
        ImGui::PopTextWrapPos();
    }
}

// Goes from one of several answers, or versions of a message, to the next; nothing where there is one. gap: behind it, -1: the
// usual.
void ChatView::sibling_switch(Conversation& c, int at, const char* what, float gap) {
    const std::vector<int> siblings = c.siblings(at);
    if (siblings.size() < 2) return;
    Theme& t = app_.theme;
    const auto here = std::find(siblings.begin(), siblings.end(), at) - siblings.begin();
    ImGui::BeginDisabled(here == 0);
    if (ui::icon_button(t, icon::left, fmt::format("Earlier {}", what).c_str(), false, 26))
        c.choose(siblings[size_t(here) - 1]), app_.chats.changed(c);
    ImGui::EndDisabled();
    ImGui::SameLine(0, t.px(2));
    ImGui::SetCursorPosY(ImGui::GetCursorPosY() + t.px(4));
    ui::small(t, t.colors.dim, fmt::format("{} / {}", here + 1, siblings.size()));
    ImGui::SameLine(0, t.px(2));
    ImGui::SetCursorPosY(ImGui::GetCursorPosY() - t.px(4));
    ImGui::BeginDisabled(here + 1 == ptrdiff_t(siblings.size()));
    if (ui::icon_button(t, icon::right, fmt::format("Later {}", what).c_str(), false, 26))
        c.choose(siblings[size_t(here) + 1]), app_.chats.changed(c);
    ImGui::EndDisabled();
    ImGui::SameLine(0, gap);
}

void ChatView::answer_tools(Conversation& c, int at, bool last) {
    Theme& t = app_.theme;
    Message& m = c.messages[size_t(at)];
    const bool busy = app_.chats.generating(c);
    sibling_switch(c, at, "answer", -1);
    if (ui::icon_button(t, icon::copy, "Copy", false, 26)) ImGui::SetClipboardText(m.content.c_str()), app_.say("Copied");
    ImGui::SameLine(0, t.px(2));
    ImGui::BeginDisabled(busy);
    if (ui::icon_button(t, icon::edit, "Edit", false, 26)) editing_ = at, editing_text_ = m.content, focus_edit_ = true;
    ImGui::BeginDisabled(!app_.ready(0));
    ImGui::SameLine(0, t.px(2));
    if (ui::icon_button(t, icon::again, "Regenerate", false, 26)) app_.chats.regenerate(c, at, app_.answering()), at_end_ = true;
    if (last) {
        ImGui::SameLine(0, t.px(2));
        if (ui::icon_button(t, icon::forward, "Continue", false, 26)) app_.chats.continue_answer(c, at, 0), at_end_ = true;
    }
    ImGui::EndDisabled();
    ImGui::EndDisabled();
    const std::string stats = stats_text(m.stats);
    if (!stats.empty()) {
        ImGui::SameLine(0, t.px(10));
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() + t.px(4));
        ui::small(t, t.colors.faint, stats);
        ui::note("stats", stats);
    }
}

void ChatView::message(Conversation& c, int at, float width, bool last) {
    Theme& t = app_.theme;
    Message& m = c.messages[size_t(at)];
    if (editing_ == at) {
        ui::small(t, t.colors.dim,
                  m.role == Role::user ? "Edit your message: it will be answered anew, the earlier one stays"
                                       : "Edit the answer: the earlier one stays");
        const float lines = float(std::clamp<ptrdiff_t>(
            2 + std::count(editing_text_.begin(), editing_text_.end(), '\n') + ptrdiff_t(editing_text_.size() / 90), 3, 16));
        if (focus_edit_) ImGui::SetKeyboardFocusHere();
        focus_edit_ = false;
        const bool enter = ui::input_multiline("##Edit", editing_text_, {width, t.size * t.scale * 1.35f * lines + t.px(12)},
                                               ImGuiInputTextFlags_CtrlEnterForNewLine | ImGuiInputTextFlags_EnterReturnsTrue);
        const bool save = ui::primary_button(t, nullptr, m.role == Role::user ? "Save and answer" : "Save");
        ImGui::SameLine();
        const bool cancel = ui::ghost_button(t, nullptr, "Cancel edit") || ImGui::IsKeyPressed(ImGuiKey_Escape);
        if (enter || save) {
            if (m.role == Role::user && !app_.ready(0))
                app_.say("Load a model first", true);
            else
                app_.chats.edit(c, at, without_soft_breaks(editing_text_), app_.answering());
            editing_ = -1;
            at_end_ = true;
        } else if (cancel) {
            editing_ = -1;
        }
        return;
    }
    if (m.role == Role::user) {
        // A bubble on the right.
        const float inner = std::min(width * 0.8f, width - t.px(40)), padding = t.px(14);
        RichText& text = texts_[{c.id, at}];
        text.set_text(m.content);
        text.set_highlight(search_);
        ImFont* font = t.fonts.regular;
        const float size = t.size * t.scale;
        float natural = 0;
        if (m.content.size() < 400) natural = font->CalcTextSizeA(size, FLT_MAX, 0, m.content.c_str()).x + t.px(4);
        const bool plain = natural > 0 && m.content.find_first_of("`#*|>-") == m.content.npos;
        const float text_width = std::ceil(plain ? std::min(natural, inner - 2 * padding) : inner - 2 * padding);
        const float x = ImGui::GetCursorPosX(), y = ImGui::GetCursorPosY();
        ImGui::SetCursorPosX(x + width - text_width - 2 * padding);
        const ImVec2 corner = ImGui::GetCursorScreenPos();
        const float text_height = text.height(t, text_width, -1e9f, 1e9f);
        ImGui::GetWindowDrawList()->AddRectFilled(
            corner, {corner.x + text_width + 2 * padding, corner.y + text_height + t.px(18)}, t.colors.raised, t.px(14));
        ImGui::SetCursorPos({x + width - text_width - padding, y + t.px(9)});
        if (text.draw(t, text_width)) selected_text_ = text.selected();
        ui::note("user", m.content);
        ImGui::SetCursorPos({x + width - t.px(c.siblings(at).size() > 1 ? 150 : 62), y + text_height + t.px(22)});
        sibling_switch(c, at, "version", t.px(2));
        ImGui::BeginDisabled(app_.chats.generating(c));
        if (ui::icon_button(t, icon::edit, "Edit message", false, 26))
            editing_ = at, editing_text_ = m.content, focus_edit_ = true;
        ImGui::EndDisabled();
        ImGui::SameLine(0, t.px(2));
        if (ui::icon_button(t, icon::copy, "Copy message", false, 26))
            ImGui::SetClipboardText(m.content.c_str()), app_.say("Copied");
        return;
    }
    if (app_.settings.compare) {
        // The newest answers of the two models beside each other.
        std::vector<int> pair;
        const std::vector<int> siblings = c.siblings(at);
        for (auto sibling = siblings.rbegin(); sibling != siblings.rend() && pair.size() < 2; ++sibling) {
            const std::string& model = c.messages[size_t(*sibling)].model;
            if (pair.empty() || c.messages[size_t(pair.front())].model != model || model.empty())
                pair.insert(pair.begin(), *sibling);
        }
        if (pair.size() == 2) {
            side_by_side(c, pair, width, last);
            return;
        }
    }
    ImGui::PushFont(t.fonts.bold, t.size * 0.92f);
    ui::text(t, t.colors.dim, m.model.empty() ? "Assistant" : m.model);
    ImGui::PopFont();
    answer_body(c, at, width);
    if (!app_.chats.generation(c, at)) {
        answer_tools(c, at, last);
    } else {
        ui::small(t, t.colors.faint, stats_text(m.stats));
    }
}

void ChatView::side_by_side(Conversation& c, const std::vector<int>& answers, float width, bool last) {
    Theme& t = app_.theme;
    const float gap = t.px(16), column = (width - gap) / 2;
    const float x = ImGui::GetCursorPosX();
    for (size_t i = 0; i < 2; i++) {
        const int at = answers[i];
        Message& m = c.messages[size_t(at)];
        if (i > 0) {
            ImGui::SameLine(0, 0);
            ImGui::SetCursorPosX(x + column + gap);
        }
        ImGui::PushID(at);
        ImGui::BeginGroup();
        const bool chosen = m.parent >= 0 && c.messages[size_t(m.parent)].chosen == at;
        if (ImGui::RadioButton(fmt::format("{}##choose", m.model.empty() ? "Assistant" : m.model).c_str(), chosen))
            c.choose(at), app_.chats.changed(c);
        ui::hint(t, "The conversation goes on with the chosen answer");
        answer_body(c, at, column);
        if (!app_.chats.generation(c, at)) {
            ImGui::PushTextWrapPos(x + (column + gap) * float(i) + column);
            ui::small(t, t.colors.faint, stats_text(m.stats));
            ImGui::PopTextWrapPos();
            ui::note("stats", stats_text(m.stats));
        }
        ImGui::Dummy({column, 0});
        ImGui::EndGroup();
        ImGui::PopID();
    }
    ImGui::SetCursorPosX(x);
    if (last && !app_.chats.generating(c)) {
        ImGui::BeginDisabled(!app_.ready(0));
        if (ui::ghost_button(t, icon::again, "Regenerate both"))
            app_.chats.regenerate(c, answers.front(), app_.answering()), at_end_ = true;
        ImGui::EndDisabled();
    }
}

void ChatView::welcome() {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(0);
    ImGui::Dummy({0, std::max(t.px(20), ImGui::GetContentRegionAvail().y * 0.3f)});
    auto line = [&](ImFont* font, float factor, ImU32 color, const std::string& text) {
        ImGui::PushFont(font, t.size * factor);
        const float w = std::min(ImGui::CalcTextSize(text.c_str()).x, ImGui::GetContentRegionAvail().x - t.px(40));
        ui::centered(w);
        ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + w + t.px(2));
        ui::text(t, color, text);
        ImGui::PopTextWrapPos();
        ImGui::PopFont();
    };
    switch (s.status) {
        case EngineStatus::ready:
            line(t.fonts.bold, 1.6f, t.colors.text, s.name);
            line(t.fonts.regular, 1, t.colors.dim,
                 fmt::format("{} in memory on {}, context of {} tokens", human_bytes(double(s.memory.total())), s.device,
                             with_commas(s.context)));
            if (s.cpu)
                line(t.fonts.regular, 0.92f, t.colors.warn, "No GPU is used: this device is a CPU, and answers come slowly");
            if (!s.made_for_chat)
                line(t.fonts.regular, 0.92f, t.colors.dim, "The model has no chat template: it continues what you write");
            break;
        case EngineStatus::loading:
            line(t.fonts.bold, 1.3f, t.colors.text, "Loading " + s.name);
            line(t.fonts.regular, 1, t.colors.dim, s.message);
            break;
        case EngineStatus::failed:
            line(t.fonts.bold, 1.3f, t.colors.text, s.name + " was not loaded");
            line(t.fonts.regular, 1, t.colors.bad, s.message);
            break;
        case EngineStatus::empty:
            line(t.fonts.bold, 1.6f, t.colors.text, "Talk to a small model");
            line(t.fonts.regular, 1, t.colors.dim, "Choose a model at the top, or add a folder with models.");
            ImGui::Dummy({0, t.px(6)});
            ui::centered(t.px(190));
            if (ui::primary_button(t, icon::folder, "Add models", {t.px(190), t.px(38)})) {
                app_.view = View::models;
                app_.open_dialog("Add a folder with models", true, ".gguf",
                                 [this](const std::filesystem::path& p) { app_.add_to_library(p); });
            }
            break;
    }
}

void ChatView::composer(Conversation* c, float width) {
    Theme& t = app_.theme;
    const float inner = std::min(width - t.px(48), t.px(column_width));
    const ImVec2 start = ImGui::GetCursorScreenPos();
    const float height = ImGui::GetContentRegionAvail().y - t.px(16);
    const ImVec2 at{start.x + (width - inner) / 2, start.y};
    ImDrawList* draw = ImGui::GetWindowDrawList();
    draw->AddRectFilled(at, {at.x + inner, at.y + height}, t.colors.surface, t.px(14));
    const bool generating = c && app_.chats.generating(*c);
    ImGui::SetCursorScreenPos({at.x + t.px(6), at.y + (height - (height - t.px(10))) / 2});
    ImGui::PushStyleColor(ImGuiCol_FrameBg, 0);
    ImGui::PushStyleColor(ImGuiCol_NavCursor, 0);
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(t.px(10), t.px(8)));
    if (focus_input_) ImGui::SetKeyboardFocusHere();
    focus_input_ = false;
    const bool enter = ui::input_multiline("##Message", input_, {inner - t.px(60), height - t.px(10)},
                                           ImGuiInputTextFlags_CtrlEnterForNewLine | ImGuiInputTextFlags_EnterReturnsTrue);
    const bool active = ImGui::IsItemActive();
    if (ImGui::IsItemDeactivatedAfterEdit() && c && c->draft != without_soft_breaks(input_))
        c->draft = without_soft_breaks(input_), app_.chats.changed(*c);
    ImGui::PopStyleVar();
    ImGui::PopStyleColor(2);
    draw->AddRect(at, {at.x + inner, at.y + height}, active ? with_alpha(t.colors.accent, 0.7f) : t.colors.border, t.px(14), 0,
                  t.px(1));
    if (input_.empty())
        draw->AddText(t.fonts.regular, t.size * t.scale, {at.x + t.px(17), at.y + t.px(13)}, t.colors.faint,
                      app_.state(0).made_for_chat ? "Write a message" : "Write the beginning of a text");
    ImGui::SetCursorScreenPos({at.x + inner - t.px(46), at.y + height - t.px(44)});
    ImGui::PushStyleVar(ImGuiStyleVar_FrameRounding, t.px(18));
    ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, ImVec2(0, 0));
    if (generating) {
        if (ui::button(t, icon::stop, "##Stop", {t.px(36), t.px(36)})) stop();
        ui::hint(t, "Stop (Esc)");
    } else {
        if (ui::primary_button(t, icon::send, "##Send", {t.px(36), t.px(36)})) send(), focus_input_ = true;
        ui::hint(t, "Send (Enter)");
    }
    ImGui::PopStyleVar(2);
    if (enter && !generating) {
        send();
        focus_input_ = true;
    } else if (enter) {
        focus_input_ = true;
    }
}

void ChatView::settings_panel(Conversation& c) {
    Theme& t = app_.theme;
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::BeginChild("settings", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    bool changed = false;
    ui::heading(t, "This chat", 1.1f);
    ui::small(t, t.colors.dim, "Preset");
    ImGui::SetNextItemWidth(-1);
    if (ImGui::BeginCombo("##Preset", c.settings.preset.empty() ? "Model's own" : c.settings.preset.c_str())) {
        for (const Preset& preset : built_in_presets())
            if (ImGui::Selectable(preset.name.c_str(), preset.name == c.settings.preset)) {
                const std::string system = c.settings.system;
                const int64_t max_tokens = c.settings.max_tokens;
                c.settings = preset.settings;
                c.settings.system = system;
                c.settings.max_tokens = max_tokens;
                changed = true;
            }
        ImGui::EndCombo();
    }
    ui::small(t, t.colors.dim, "System prompt");
    if (system_of_ != c.id || (without_soft_breaks(system_) != c.settings.system && !system_active_))
        system_ = c.settings.system, system_of_ = c.id;
    if (ui::input_multiline("##System prompt", system_, {-1, t.px(110)}) && without_soft_breaks(system_) != c.settings.system)
        c.settings.system = without_soft_breaks(system_), changed = true;
    system_active_ = ImGui::IsItemActive();
    ImGui::Dummy({0, t.px(4)});
    SamplingChoice& s = c.settings.sampling;
    changed |= ImGui::Checkbox("Greedy", &s.greedy);
    ui::hint(t, "Always the most likely token");
    ImGui::BeginDisabled(s.greedy);
    auto slider = [&](const char* name, std::optional<double>& value, double from, double to, double standard, const char* what) {
        bool own = value.has_value();
        ImGui::PushID(name);
        if (ImGui::Checkbox(name, &own)) value = own ? std::optional(standard) : std::nullopt, changed = true;
        ui::hint(t, what);
        if (value) {
            auto v = float(*value);
            ImGui::SetNextItemWidth(-1);
            if (ImGui::SliderFloat("##value", &v, float(from), float(to), "%.2f")) value = v, changed = true;
        }
        ImGui::PopID();
    };
    slider("Temperature", s.temperature, 0, 2, 0.7, "0: always the most likely token; 1: as the model has it");
    slider("Top-p", s.top_p, 0, 1, 0.95, "Only the likeliest tokens that make up this share together");
    slider("Min-p", s.min_p, 0, 1, 0.05, "Only tokens with at least this share of the best one's probability");
    slider("Repetition penalty", s.repetition_penalty, 1, 2, 1.1, "Above 1: tokens of the context become less likely");
    bool top_k = s.top_k.has_value();
    if (ImGui::Checkbox("Top-k", &top_k)) s.top_k = top_k ? std::optional<int64_t>(40) : std::nullopt, changed = true;
    if (s.top_k) {
        int k = int(*s.top_k);
        ImGui::SetNextItemWidth(-1);
        if (ImGui::InputInt("##Top-k value", &k)) s.top_k = std::max(0, k), changed = true;
    }
    bool seed = s.seed.has_value();
    if (ImGui::Checkbox("Seed", &seed)) s.seed = seed ? std::optional<uint64_t>(1) : std::nullopt, changed = true;
    ui::hint(t, "The same seed gives the same text");
    if (s.seed) {
        int value = int(*s.seed);
        ImGui::SetNextItemWidth(-1);
        if (ImGui::InputInt("##Seed value", &value)) s.seed = uint64_t(std::max(0, value)), changed = true;
    }
    ImGui::EndDisabled();
    ui::small(t, t.colors.dim, "Longest answer, tokens");
    int most = int(c.settings.max_tokens);
    ImGui::SetNextItemWidth(-1);
    if (ImGui::InputInt("##Longest answer", &most, 64, 512)) c.settings.max_tokens = std::clamp(most, 1, 1 << 24), changed = true;
    ImGui::Dummy({0, t.px(8)});
    ui::small(t, t.colors.faint,
              fmt::format("{} messages, {}; last {}", c.messages.size(), human_bytes(double(c.bytes())), when(c.updated)));
    if (ui::button(t, icon::download, "Markdown")) export_current(true);
    ImGui::SameLine();
    if (ui::button(t, icon::download, "JSON")) export_current(false);
    ImGui::SameLine();
    if (ui::button(t, icon::upload, "Import")) import();
    if (changed) app_.chats.changed(c);
    ImGui::EndChild();
    ImGui::PopStyleColor();
}

}  // namespace vkqat

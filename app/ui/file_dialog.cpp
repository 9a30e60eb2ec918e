#include "app/ui/file_dialog.h"

#include <algorithm>
#include <cstdlib>

#include "app/ui/widgets.h"

namespace vkqat {
namespace fs = std::filesystem;

void FileDialog::open(std::string title, bool folders, std::string extension, std::function<void(const fs::path&)> done) {
    title_ = std::move(title);
    folders_ = folders;
    extension_ = std::move(extension);
    done_ = std::move(done);
    opening_ = true;
    const char* home = std::getenv("HOME");
    enter(folder_.empty() ? (home ? fs::path(home) : fs::path("/")) : folder_);
}

void FileDialog::enter(fs::path folder) {
    constexpr size_t most = 5000;
    std::error_code error;
    std::vector<Entry> entries;
    for (fs::directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
         !error && at != end && entries.size() < most; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (name.starts_with('.')) continue;
        std::error_code ignored;
        const bool is_folder = at->is_directory(ignored);
        if (is_folder || (!extension_.empty() && at->path().extension() == extension_)) entries.push_back({name, is_folder});
    }
    if (error) {
        error_ = folder.string() + ": " + error.message();
        return;
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return std::tuple(!a.folder, a.name) < std::tuple(!b.folder, b.name); });
    error_.clear();
    folder_ = folder.lexically_normal();
    typed_ = folder_.string();
    entries_ = std::move(entries);
    chosen_.clear();
}

void FileDialog::draw(const Theme& t) {
    const std::string id = title_ + "###dialog";
    if (opening_) ImGui::OpenPopup(id.c_str());
    opening_ = false;
    const ImVec2 screen = ImGui::GetMainViewport()->Size;
    ImGui::SetNextWindowSize({std::min(t.px(640), screen.x * 0.94f), std::min(t.px(520), screen.y * 0.9f)});
    ImGui::SetNextWindowPos({screen.x / 2, screen.y / 2}, ImGuiCond_Always, {0.5f, 0.5f});
    if (!ImGui::BeginPopupModal(id.c_str(), nullptr,
                                ImGuiWindowFlags_NoResize | ImGuiWindowFlags_NoTitleBar | ImGuiWindowFlags_NoSavedSettings))
        return;
    ui::heading(t, title_, 1.15f);
    if (ui::icon_button(t, icon::up, "Parent folder")) enter(folder_.parent_path());
    ImGui::SameLine();
    if (ui::icon_button(t, icon::home, "Home"))
        if (const char* home = std::getenv("HOME")) enter(home);
    ImGui::SameLine();
    if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
    const bool entered = ui::input("##Path", "Path", typed_, ImGuiInputTextFlags_EnterReturnsTrue);
    std::error_code error;
    bool done = false;
    fs::path result;
    if (entered) {
        const fs::path path = typed_;
        if (fs::is_directory(path, error)) {
            if (path.lexically_normal() == folder_ && folders_)
                done = true, result = folder_;
            else
                enter(path);
        } else if (fs::is_regular_file(path, error)) {
            done = true, result = path;
        } else {
            error_ = typed_ + ": there is no such file or folder";
        }
    }
    ImGui::PushStyleColor(ImGuiCol_ChildBg, t.colors.surface);
    ImGui::BeginChild("entries", {0, ImGui::GetContentRegionAvail().y - t.px(44)}, ImGuiChildFlags_AlwaysUseWindowPadding);
    fs::path next;
    ImGuiListClipper clipper;
    clipper.Begin(int(entries_.size()));
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; i++) {
            const Entry& e = entries_[size_t(i)];
            const fs::path path = folder_ / e.name;
            const std::string label = std::string(e.folder ? icon::folder : icon::file) + "   " + e.name;
            if (ImGui::Selectable(label.c_str(), chosen_ == path,
                                  ImGuiSelectableFlags_AllowDoubleClick | ImGuiSelectableFlags_NoAutoClosePopups)) {
                chosen_ = path;
                if (ImGui::IsMouseDoubleClicked(0) || ImGui::IsKeyPressed(ImGuiKey_Enter)) {
                    if (e.folder)
                        next = path;
                    else
                        done = true, result = path;
                }
            }
        }
    ImGui::EndChild();
    ImGui::PopStyleColor();
    if (!next.empty()) enter(next);
    const float width = t.px(110);
    ui::small(t, t.colors.bad,
              ui::shortened(t.fonts.regular, t.size * t.scale * 0.86f, error_,
                            ImGui::GetContentRegionAvail().x - 2 * width - t.px(20)));
    ImGui::SameLine(ui::right_edge() - 2 * width - t.px(8));
    if (ui::button(t, nullptr, "Cancel", {width, 0}) || ImGui::IsKeyPressed(ImGuiKey_Escape)) ImGui::CloseCurrentPopup();
    ImGui::SameLine();
    ImGui::BeginDisabled(!folders_ && chosen_.empty());
    if (ui::primary_button(t, nullptr, folders_ ? "Choose" : "Open", {width, 0})) {
        done = true;
        result = chosen_.empty() ? folder_ : chosen_;
    }
    ImGui::EndDisabled();
    if (done) {
        ImGui::CloseCurrentPopup();
        done_(result);
    }
    ImGui::EndPopup();
}

}  // namespace vkqat

#include "app/ui/profile_view.h"

#include <algorithm>
#include <cmath>

#include "app/core/treemap.h"
#include "app/ui/widgets.h"
#include "runtime/support/files.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

ImU32 color_of(const Theme& t, const std::string& label) {
    return t.colors.series[std::hash<std::string>{}(without_layer(label)) % 8];
}

std::string time_text(double seconds) {
    if (seconds < 1e-3) return fmt::format("{:.1f} µs", seconds * 1e6);
    if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
    return fmt::format("{:.2f} s", seconds);
}

}  // namespace

void ProfileView::measure() {
    if (app_.ready(0)) app_.engines[0].profile();
}

void ProfileView::open_trace() {
    app_.open_dialog("Open a Chrome or Perfetto trace", false, ".json", [this](const std::filesystem::path& path) {
        try {
            file_ = parse_chrome_trace(read_text_file(path, size_t(256) << 20), path.string());
            file_name_ = path.filename().string();
            which_ = 2;
            from_ = to_ = 0;
        } catch (const std::exception& e) {
            app_.say(e.what(), true);
        }
    });
}

void ProfileView::save_trace(const std::vector<TraceEvent>& events) {
    const std::string text = to_chrome_trace(events);
    app_.open_dialog("Save the trace into…", true, "", [this, text](const std::filesystem::path& folder) {
        std::filesystem::path file = folder / "trace.json";
        std::error_code error;
        for (int i = 2; std::filesystem::exists(file, error); i++) file = folder / fmt::format("trace-{}.json", i);
        app_.store.write(file, text);
        app_.say("Saved " + file.string());
    });
}

// Areas in proportion to bytes: what the weights of each layer take, and within it each of its matrices; the cache, by layer; the
// rest.
void ProfileView::memory(ImVec2 size) {
    Theme& t = app_.theme;
    const EngineState& s = app_.state(0);
    const MemoryNeed& m = s.memory;
    if (parts_of_ != s.model) {
        parts_of_ = s.model;
        parts_.clear();
        reading_.ask([model = s.model] { return weight_parts(model); });
    }
    if (auto parts = reading_.take()) parts_ = std::move(*parts);
    for (auto [name, bytes] :
         {std::pair{"Weights", m.weights}, {"Cache", m.cache}, {"Workspace", m.workspace}, {"Other", m.rest}})
        ui::note("memory", fmt::format("{} {}", name, human_bytes(double(bytes))));

    struct Area {
        std::string name;
        double bytes;
        ImU32 color;
        std::vector<std::pair<std::string, double>> inside;
    };
    std::vector<Area> areas;
    double read = 0;
    int64_t layers = 0;
    for (const WeightPart& p : parts_) read += double(p.bytes), layers = std::max(layers, p.layer + 1);
    // The device may hold another type than the files: their shares are shown, of what the device holds.
    const double factor = read > 0 ? double(m.weights) / read : 0;
    if (parts_.empty()) areas.push_back({"Weights", double(m.weights), t.colors.series[0], {}});
    for (const WeightPart& p : parts_) {
        const std::string bits = p.bits > 0 ? fmt::format(" {:.3g} bits", p.bits) : "";
        if (p.layer < 0) {
            areas.push_back({p.name + bits, double(p.bytes) * factor, t.colors.series[4], {}});
            continue;
        }
        const std::string layer = fmt::format("layer {}", p.layer);
        if (areas.empty() || areas.back().name != layer) areas.push_back({layer, 0, t.colors.series[0], {}});
        areas.back().bytes += double(p.bytes) * factor;
        areas.back().inside.emplace_back(p.name + bits, double(p.bytes) * factor);
    }
    Area cache{"cache", double(m.cache), t.colors.series[1], {}};
    for (int64_t i = 0; i < layers; i++) cache.inside.emplace_back(fmt::format("layer {}", i), double(m.cache) / double(layers));
    areas.push_back(std::move(cache));
    areas.push_back({"workspace", double(m.workspace), t.colors.series[2], {}});
    areas.push_back({"other", double(m.rest), t.colors.series[7], {}});

    const ImVec2 at = ImGui::GetCursorScreenPos(), mouse = ImGui::GetIO().MousePos;
    ImGui::Dummy(size);
    const bool hovered = ImGui::IsItemHovered();
    ImDrawList* draw = ImGui::GetWindowDrawList();
    const float text = t.size * t.scale * 0.8f, gap = t.px(1), total = float(m.total());
    std::string under;
    auto box = [&](const TreemapCell& c, ImU32 color, float alpha, const std::string& name, double bytes, const std::string& of) {
        const ImVec2 low{c.x, c.y}, high{c.x + std::max(1.0f, c.width - gap), c.y + std::max(1.0f, c.height - gap)};
        draw->AddRectFilled(low, high, with_alpha(color, alpha), c.width > t.px(10) && c.height > t.px(10) ? t.px(3) : 0);
        if (hovered && mouse.x >= c.x && mouse.x < c.x + c.width && mouse.y >= c.y && mouse.y < c.y + c.height)
            under = fmt::format("{}{}: {}, {:.1f} %", of, name, human_bytes(bytes), 100 * bytes / double(total));
        return std::pair{low, high};
    };
    auto label = [&](const TreemapCell& c, ImFont* font, const std::string& name, ImU32 color) {
        if (c.height < text * 1.3f || c.width < t.px(30)) return;
        const std::string shown = ui::shortened(font, text, name, c.width - t.px(8));
        draw->AddText(font, text, {c.x + t.px(4), c.y + t.px(1)}, color, shown.c_str());
    };
    std::vector<double> figures;
    for (const Area& a : areas) figures.push_back(a.bytes);
    const std::vector<TreemapCell> cells = treemap(figures, {at.x, at.y, size.x, size.y});
    for (size_t i = 0; i < areas.size(); i++) {
        const Area& a = areas[i];
        const TreemapCell& c = cells[i];
        if (c.width <= 0) continue;
        const float header = !a.inside.empty() && c.height > t.px(44) && c.width > t.px(40) ? std::round(text * 1.25f) : 0;
        const std::string name = fmt::format("{}  {}", a.name, human_bytes(a.bytes));
        box(c, a.color, a.inside.empty() ? 0.42f : 0.2f, a.name, a.bytes, "");
        if (header > 0 || a.inside.empty()) label(c, t.fonts.bold, name, t.colors.text);
        if (a.inside.empty()) continue;
        std::vector<double> inner;
        for (const auto& part : a.inside) inner.push_back(part.second);
        const float edge = t.px(2);
        const std::vector<TreemapCell> parts = treemap(inner, {c.x + edge, c.y + std::max(header, edge), c.width - 2 * edge - gap,
                                                               c.height - std::max(header, edge) - edge - gap});
        for (size_t k = 0; k < parts.size(); k++) {
            if (parts[k].width <= 0) continue;
            box(parts[k], a.color, 0.38f, a.inside[k].first, a.inside[k].second, a.name + ", ");
            label(parts[k], t.fonts.regular, a.inside[k].first, t.colors.text);
        }
    }
    if (!under.empty()) ImGui::SetTooltip("%s", under.c_str());
    ui::note("treemap", fmt::format("{} layers, {} parts", layers, parts_.size()));
}

void ProfileView::flame(const std::vector<TraceEvent>& events, ImVec2 size) {
    Theme& t = app_.theme;
    double end = 0;
    std::vector<std::string> tracks;
    for (const TraceEvent& e : events) {
        end = std::max(end, e.start + e.seconds);
        if (std::find(tracks.begin(), tracks.end(), e.track) == tracks.end()) tracks.push_back(e.track);
    }
    if (to_ <= from_ || to_ > end) from_ = std::clamp(from_, 0.0, end), to_ = to_ <= from_ ? end : std::min(to_, end);
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::InvisibleButton("flame", size);
    ImGuiIO& io = ImGui::GetIO();
    if (ImGui::IsItemHovered() && io.MouseWheel != 0) {  // zooms around the mouse
        const double middle = from_ + (to_ - from_) * double((io.MousePos.x - at.x) / size.x),
                     factor = std::pow(0.8, double(io.MouseWheel));
        from_ = std::max(0.0, middle - (middle - from_) * factor), to_ = std::min(end, middle + (to_ - middle) * factor);
    }
    if (ImGui::IsItemActive() && io.MouseDelta.x != 0) {
        const double shift = std::clamp(-double(io.MouseDelta.x) / double(size.x) * (to_ - from_), -from_, end - to_);
        from_ += shift, to_ += shift;
    }
    if (ImGui::IsItemHovered() && ImGui::IsMouseDoubleClicked(0)) from_ = 0, to_ = end;
    ImDrawList* draw = ImGui::GetWindowDrawList();
    draw->PushClipRect(at, {at.x + size.x, at.y + size.y}, true);
    draw->AddRectFilled(at, {at.x + size.x, at.y + size.y}, t.colors.surface, t.px(6));
    const float row = t.px(26), text = t.size * t.scale * 0.8f;
    const TraceEvent* under = nullptr;
    auto to_x = [&](double s) { return at.x + float((s - from_) / (to_ - from_)) * size.x; };
    // A row of layers above each track's nodes.
    for (size_t track = 0; track < tracks.size(); track++) {
        const float y = at.y + t.px(4) + float(track) * (2 * row + t.px(8));
        int layer = -2;
        double begin = 0, last = 0;
        auto close = [&] {
            if (layer < 0) return;
            const float x0 = std::max(at.x, to_x(begin)), x1 = std::min(at.x + size.x, to_x(last));
            if (x1 - x0 < 2) return;
            draw->AddRectFilled({x0, y}, {x1 - 1, y + row - t.px(2)}, layer % 2 ? t.colors.active : t.colors.hover, t.px(3));
            const std::string label = fmt::format("layer {}", layer);
            if (x1 - x0 > t.px(54))
                draw->AddText(t.fonts.regular, text, {x0 + t.px(5), y + t.px(4)}, t.colors.dim, label.c_str());
        };
        float drawn_to = -1;
        for (const TraceEvent& e : events) {
            if (e.track != tracks[track]) continue;
            if (const int l = layer_of(e.name); l != layer) close(), layer = l, begin = e.start;
            last = e.start + e.seconds;
            const float x0 = std::max(at.x, to_x(e.start)), x1 = std::min(at.x + size.x, to_x(e.start + e.seconds));
            if (x1 < at.x || x0 > at.x + size.x) continue;
            if (x1 <= drawn_to) continue;  // less than a pixel
            drawn_to = std::max(x0 + 1, x1);
            const ImVec2 low{x0, y + row}, high{std::max(x0 + 1, x1 - 1), y + 2 * row - t.px(2)};
            draw->AddRectFilled(low, high, color_of(t, e.name), x1 - x0 > t.px(6) ? t.px(3) : 0);
            if (x1 - x0 > t.px(40)) {
                const std::string label = ui::shortened(t.fonts.regular, text, without_layer(e.name), x1 - x0 - t.px(8));
                draw->AddText(t.fonts.regular, text, {x0 + t.px(4), y + row + t.px(4)}, t.colors.accent_text, label.c_str());
            }
            if (io.MousePos.x >= low.x && io.MousePos.x < high.x && io.MousePos.y >= low.y && io.MousePos.y < high.y) under = &e;
        }
        close();
    }
    draw->PopClipRect();
    if (under && ImGui::IsItemHovered())
        ImGui::SetTooltip("%s\n%s\n%.1f GB/s, %.3f TFLOP/s", under->name.c_str(), time_text(under->seconds).c_str(),
                          under->bytes / std::max(1e-12, under->seconds) * 1e-9,
                          under->flops / std::max(1e-12, under->seconds) * 1e-12);
}

void ProfileView::table(const std::vector<TraceEvent>& events, ImVec2 size) {
    Theme& t = app_.theme;
    std::vector<ProfileSum> rows = sums_by_label(events);
    double total = 0;
    for (const ProfileSum& r : rows) total += r.seconds;
    if (!ImGui::BeginTable("nodes", 6,
                           ImGuiTableFlags_Sortable | ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY | ImGuiTableFlags_Resizable,
                           size))
        return;
    ImGui::TableSetupScrollFreeze(0, 1);
    ImGui::TableSetupColumn("Node", 0, 3);
    ImGui::TableSetupColumn("Count", ImGuiTableColumnFlags_PreferSortDescending, 0.8f);
    ImGui::TableSetupColumn("Time", ImGuiTableColumnFlags_DefaultSort | ImGuiTableColumnFlags_PreferSortDescending, 1);
    ImGui::TableSetupColumn("Share", ImGuiTableColumnFlags_PreferSortDescending, 1.6f);
    ImGui::TableSetupColumn("GB/s", ImGuiTableColumnFlags_PreferSortDescending, 1);
    ImGui::TableSetupColumn("TFLOP/s", ImGuiTableColumnFlags_PreferSortDescending, 1);
    ImGui::TableHeadersRow();
    if (const ImGuiTableSortSpecs* specs = ImGui::TableGetSortSpecs(); specs && specs->SpecsCount > 0) {
        const int column = specs->Specs[0].ColumnIndex;
        const bool down = specs->Specs[0].SortDirection == ImGuiSortDirection_Descending;
        auto key = [&](const ProfileSum& r) {
            return column == 1   ? double(r.count)
                   : column == 4 ? r.bytes / std::max(1e-12, r.seconds)
                   : column == 5 ? r.flops / std::max(1e-12, r.seconds)
                                 : r.seconds;
        };
        std::stable_sort(rows.begin(), rows.end(), [&](const ProfileSum& a, const ProfileSum& b) {
            if (column == 0) return down ? b.label < a.label : a.label < b.label;
            return down ? key(a) > key(b) : key(a) < key(b);
        });
    }
    for (const ProfileSum& r : rows) {
        ImGui::TableNextRow();
        ImGui::TableNextColumn();
        const ImVec2 at = ImGui::GetCursorScreenPos();
        ImGui::GetWindowDrawList()->AddRectFilled({at.x, at.y + t.px(3)}, {at.x + t.px(10), at.y + t.px(13)},
                                                  color_of(t, r.label), t.px(2));
        ImGui::SetCursorPosX(ImGui::GetCursorPosX() + t.px(18));
        ui::text(t, t.colors.text, r.label);
        ImGui::TableNextColumn();
        ui::text(t, t.colors.dim, std::to_string(r.count));
        ImGui::TableNextColumn();
        ui::text(t, t.colors.text, time_text(r.seconds));
        ImGui::TableNextColumn();
        const float share = total > 0 ? float(r.seconds / total) : 0;
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() + t.px(6));
        ui::meter(t, share, t.colors.accent, {t.px(60), t.px(5)});
        ImGui::SameLine();
        ImGui::SetCursorPosY(ImGui::GetCursorPosY() - t.px(6));
        ui::text(t, t.colors.dim, fmt::format("{:.1f} %", 100 * share));
        ImGui::TableNextColumn();
        ui::text(t, t.colors.dim, r.bytes > 0 && r.seconds > 0 ? fmt::format("{:.1f}", r.bytes / r.seconds * 1e-9) : "-");
        ImGui::TableNextColumn();
        ui::text(t, t.colors.dim, r.flops > 0 && r.seconds > 0 ? fmt::format("{:.3f}", r.flops / r.seconds * 1e-12) : "-");
    }
    ImGui::EndTable();
}

void ProfileView::draw(ImVec2) {
    Theme& t = app_.theme;
    if (auto profile = app_.engines[0].last_profile(); profile && profile != shown_) {
        shown_ = profile;
        decode_ = trace_of(profile->decode, "decode");
        prefill_ = trace_of(profile->prefill, "prefill");
        if (which_ == 2 || (profile->live && which_ == 1)) which_ = 0;
        if (!profile->live) from_ = to_ = 0;
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(28), t.px(24)));
    ImGui::BeginChild("profile", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float width = ImGui::GetContentRegionAvail().x;
    const EngineState& s = app_.state(0);
    ui::heading(t, "Profile", 1.6f);
    ui::at_right(t.px(280));
    if (ui::button(t, icon::folder, "Open a trace", {t.px(136), t.px(34)})) open_trace();
    ImGui::SameLine();
    ImGui::BeginDisabled(!app_.ready(0) || s.busy);
    if (ui::primary_button(t, icon::play,
                           !s.busy                    ? "Measure"
                           : s.message == "measuring" ? "Measuring…"
                                                      : "Answering…",
                           {t.px(136), t.px(34)}))
        measure();
    ImGui::EndDisabled();
    if (app_.ready(0)) {
        if (ImGui::Checkbox("Live", &live_)) app_.engines[0].set_live(live_);
        ui::hint(t, "While the model answers, one token in a second is measured node by node: the answer is that much slower");
        ImGui::SameLine();
        ui::text(t, t.colors.dim,
                 fmt::format("{} on {}: {} of memory at a context of {}", s.name, s.device, human_bytes(double(s.memory.total())),
                             with_commas(s.context)));
        memory({width, t.px(parts_.empty() ? 110 : 170)});
        if (!s.busy && !s.message.empty()) ui::wrapped(t, t.colors.bad, s.message);
        if (!shown_ && file_.empty()) {
            if (ui::empty_state(
                    t, icon::bolt, "Where does time go?",
                    "Measure every node of a decoded token and of a prompt, or switch on Live and let the model answer.",
                    icon::play, "Measure it"))
                measure();
        }
    } else if (file_.empty()) {
        if (ui::empty_state(t, icon::profile, "Where do memory and time go?",
                            "Load a model and measure it, or open a trace of a training (a file for Chrome or Perfetto).",
                            icon::models, "Choose a model"))
            app_.view = View::models;
    }
    if (shown_ || !file_.empty()) {
        if (shown_) {
            if (ImGui::RadioButton("A decoded token", which_ == 0)) which_ = 0, from_ = to_ = 0;
            ImGui::SameLine();
            ImGui::BeginDisabled(prefill_.empty());
            if (ImGui::RadioButton(fmt::format("A prompt's {} tokens", shown_->prefill_tokens).c_str(), which_ == 1))
                which_ = 1, from_ = to_ = 0;
            ImGui::EndDisabled();
            ui::same_line_if_it_fits(t.px(160));
        }
        if (!file_.empty()) {
            if (ImGui::RadioButton(file_name_.c_str(), which_ == 2)) which_ = 2, from_ = to_ = 0;
            ImGui::SameLine();
        }
        const std::vector<TraceEvent>& events = which_ == 2 || !shown_ ? file_ : which_ == 1 ? prefill_ : decode_;
        double total = 0;
        for (const TraceEvent& e : events) total += e.seconds;
        ui::text(
            t, t.colors.dim,
            fmt::format(
                "{} nodes, {} together{}", events.size(), time_text(total),
                which_ == 0 && shown_ && shown_->live ? fmt::format(", live at token {}", with_commas(shown_->position)) : ""));
        ui::at_right(t.px(136));
        if (ui::button(t, icon::download, "Save trace", {t.px(136), 0})) save_trace(events);
        if (which_ != 2)
            ui::small(t, t.colors.warn,
                      std::string(icon::info) +
                          "  Measured nodes do not overlap and pay for their timestamps: the sum exceeds a step without them.");
        size_t tracks = 1;
        for (size_t i = 1; i < events.size(); i++) tracks += events[i].track != events[i - 1].track;
        flame(events, {width, t.px(8) + float(std::min<size_t>(tracks, 4)) * t.px(60)});
        ui::small(t, t.colors.faint, "Wheel: zoom. Drag: move. Double click: all.");
        table(events, {width, std::max(t.px(160), ImGui::GetContentRegionAvail().y)});
    }
    ImGui::EndChild();
}

}  // namespace vkqat

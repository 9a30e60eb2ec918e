#include "app/ui/training_view.h"

#include <algorithm>
#include <ctime>
#include <sstream>

#include "app/ui/widgets.h"
#include "runtime/support/clock.h"
#include "runtime/support/files.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

constexpr double look_every = 1, search_every = 5, read_budget = 0.004;  // seconds

std::string end_of_file(const std::filesystem::path& path, size_t bytes) {
    try {
        const std::string text = read_text_file(path, size_t(64) << 20);
        const size_t from = text.size() > bytes ? text.find('\n', text.size() - bytes) : 0;
        return from == text.npos ? "" : text.substr(from);
    } catch (const std::exception&) {
        return "";
    }
}

}  // namespace

void TrainingView::add_folder() {
    app_.open_dialog("Watch the training runs in a folder", true, "", [this](const std::filesystem::path& path) {
        app_.settings.runs.push_back(path.string());
        app_.save_settings();
    });
}

void TrainingView::start() {
    if (process_.running()) {
        app_.say("A training runs already", true);
        return;
    }
    app_.open_dialog("Start a training from a configuration", false, ".toml", [this](const std::filesystem::path& config) {
        std::vector<std::string> arguments;
        std::istringstream words(overrides_);
        for (std::string word; words >> word;) arguments.push_back(word);
        try {
            process_.start(vkqat_program(), config, arguments, data_folder() / "training" / (config.stem().string() + ".log"));
            const std::filesystem::path folder = dump_folder(config, arguments);
            std::vector<std::string>& watched = app_.settings.runs;
            if (!folder.empty() && std::none_of(watched.begin(), watched.end(),
                                                [&](const std::string& w) { return folder.string().starts_with(w); })) {
                watched.push_back(folder.string());
                app_.save_settings();
            }
            searched_ = looked_ = -1e9;
            app_.say("Training " + config.filename().string());
        } catch (const std::exception& e) {
            app_.say(e.what(), true);
        }
    });
}

void TrainingView::refresh() {
    // A step at a time: a long file is read over several frames.
    const Clock::time_point start = Clock::now();
    if (more_)
        for (Run& run : runs_)
            while (seconds_since(start) < read_budget && update_run(run)) {
            }
    if (app_.time() - looked_ < look_every) {
        more_ = more_ && seconds_since(start) >= read_budget;
        return;
    }
    looked_ = app_.time();
    more_ = true;
    if (folders_ != app_.settings.runs || looked_ - searched_ > search_every) {
        searched_ = looked_;
        folders_ = app_.settings.runs;
        std::vector<std::filesystem::path> found;
        for (const std::string& folder : folders_)
            for (const auto& run : find_runs(folder)) found.push_back(run);
        std::erase_if(runs_, [&](const Run& r) { return std::find(found.begin(), found.end(), r.folder) == found.end(); });
        for (const auto& folder : found)
            if (std::none_of(runs_.begin(), runs_.end(), [&](const Run& r) { return r.folder == folder; }))
                runs_.push_back(open_run(folder));
    }
    const bool runs = process_.running();
    if (!process_.log.empty()) log_end_ = end_of_file(process_.log, 1500);
    if (was_running_ && !runs)
        app_.say(
            process_.exit_code == 0 ? "The training has ended" : fmt::format("The training ended with {}", process_.exit_code),
            process_.exit_code != 0);
    was_running_ = runs;
}

void TrainingView::run_list(float width) {
    Theme& t = app_.theme;
    for (size_t i = 0; i < runs_.size(); i++) {
        Run& run = runs_[i];
        ImGui::PushID(run.folder.c_str());
        bool on = !hidden_.count(run.folder.string());
        const ImU32 color = t.colors.series[i % 8];
        const ImVec2 at = ImGui::GetCursorScreenPos();
        ImGui::GetWindowDrawList()->AddRectFilled({at.x, at.y + t.px(6)}, {at.x + t.px(4), at.y + t.px(40)}, color, t.px(2));
        ImGui::SetCursorPosX(ImGui::GetCursorPosX() + t.px(12));
        ImGui::BeginGroup();
        if (ImGui::Checkbox(ui::shortened(t.fonts.regular, t.size * t.scale, run.name, width - t.px(60)).c_str(), &on))
            on ? void(hidden_.erase(run.folder.string())) : void(hidden_.insert(run.folder.string()));
        ui::hint(t, run.folder.string());
        const auto& loss = run.curve(Curve::loss);
        const bool live = run.changed && std::time(nullptr) - run.changed < 30;
        std::string line = run.steps ? fmt::format("step {} of {}", with_commas(run.step), with_commas(run.steps))
                                     : fmt::format("step {}", with_commas(run.step));
        if (!loss.empty()) line += fmt::format("  ·  loss {:.4f}", loss.back().value);
        ui::small(t, t.colors.dim, line);
        line = human_count(double(run.tokens)) + " tokens";
        if (!run.curve(Curve::tokens_per_second).empty())
            line += "  ·  " + human_rate(run.curve(Curve::tokens_per_second).back().value) + "/s";
        if (run.skipped) line += fmt::format("  ·  {} skipped", run.skipped);
        ui::small(t, live ? t.colors.good : t.colors.faint, (live ? "live  ·  " : "") + line);
        if (run.steps > 0) ui::meter(t, float(run.step) / float(run.steps), color, {width - t.px(40), t.px(4)});
        if (!run.error.empty()) ui::small(t, t.colors.bad, run.error);
        ImGui::EndGroup();
        ImGui::Dummy({0, t.px(4)});
        ImGui::PopID();
    }
}

void TrainingView::curve(Curve which, ImVec2 size) {
    Theme& t = app_.theme;
    Plot plot;
    plot.x = {"", log_x_, false, 0, 0};
    plot.y = {"", log_y_ && which != Curve::memory, which == Curve::memory, 0, 0};
    for (size_t i = 0; i < runs_.size(); i++) {
        if (hidden_.count(runs_[i].folder.string())) continue;
        const auto& points = runs_[i].curve(which);
        if (points.empty()) continue;
        PlotSeries series;
        series.color = plot_color(t, i);
        series.width = 1.6;
        series.marks = points.size() < 2;
        for (const CurvePoint& p : thinned(smoothing_ > 0 ? smoothed(points, double(smoothing_)) : points, size_t(size.x)))
            series.points.push_back({p.step, p.value});
        plot.series.push_back(std::move(series));
    }
    ui::small(t, t.colors.dim, curve_name(which));
    if (plot.series.empty()) {
        const ImVec2 at = ImGui::GetCursorScreenPos();
        ImGui::Dummy({size.x, size.y - ImGui::GetTextLineHeightWithSpacing()});
        ImGui::GetWindowDrawList()->AddText(t.fonts.regular, t.size * t.scale * 0.86f, {at.x, at.y + t.px(2)}, t.colors.faint,
                                            "none yet");
        return;
    }
    const DrawnPlot drawn = draw_plot(t, curve_name(which), plot, {size.x, size.y - ImGui::GetTextLineHeightWithSpacing()});
    if (!drawn.hovered) return;
    const double step = drawn.scene.from_x(ImGui::GetIO().MousePos.x - drawn.at.x);
    const float x = ImGui::GetIO().MousePos.x;
    ImGui::GetWindowDrawList()->AddLine({x, drawn.at.y + drawn.scene.top}, {x, drawn.at.y + drawn.scene.bottom}, t.colors.faint,
                                        t.px(1));
    if (ImGui::BeginTooltip()) {
        ui::text(t, t.colors.dim, fmt::format("step {}", with_commas(int64_t(step))));
        for (size_t i = 0; i < runs_.size(); i++) {
            const auto& points = runs_[i].curve(which);
            if (points.empty() || hidden_.count(runs_[i].folder.string())) continue;
            auto at =
                std::lower_bound(points.begin(), points.end(), step, [](const CurvePoint& p, double s) { return p.step < s; });
            if (at == points.end()) --at;
            ui::text(t, t.colors.series[i % 8],
                     fmt::format("{}: {}", runs_[i].name,
                                 which == Curve::memory ? human_bytes(at->value) : fmt::format("{:.5g}", at->value)));
        }
        ImGui::EndTooltip();
    }
}

void TrainingView::draw(ImVec2) {
    Theme& t = app_.theme;
    refresh();
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(28), t.px(24)));
    ImGui::BeginChild("training", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    ui::heading(t, "Training", 1.6f);
    ui::at_right(t.px(288));
    if (ui::button(t, icon::folder, "Watch a folder", {t.px(150), t.px(34)})) add_folder();
    ImGui::SameLine();
    if (process_.running()) {
        if (ui::danger_button(t, icon::stop, "Stop", {t.px(130), t.px(34)})) process_.stop();
        ui::hint(t, "It finishes its step and writes a checkpoint");
    } else if (ui::primary_button(t, icon::play, "Start a run", {t.px(130), t.px(34)})) {
        start();
    }
    ImGui::AlignTextToFramePadding();
    ui::text(t, t.colors.dim, "Smoothing");
    ImGui::SameLine();
    ImGui::SetNextItemWidth(t.px(150));
    ImGui::SliderFloat("##Smoothing", &smoothing_, 0, 0.99f, "%.2f");
    ui::same_line_if_it_fits(t.px(105));
    ImGui::Checkbox("log steps", &log_x_);
    ui::same_line_if_it_fits(t.px(110));
    ImGui::Checkbox("log values", &log_y_);
    ui::same_line_if_it_fits(t.px(240), t.px(20));
    ui::input("##Overrides", "For a run that is started, such as --training.steps=100", overrides_, 0,
              std::min(t.px(420), ImGui::GetContentRegionAvail().x));
    if (runs_.empty() && process_.log.empty()) {
        if (ui::empty_state(
                t, icon::training, app_.settings.runs.empty() ? "No runs are watched" : "No runs in these folders yet",
                "Watch a folder with training runs (what `vkqat train` writes below job.dump_folder), or start a run from a "
                "configuration.",
                icon::folder, "Watch runs in…"))
            add_folder();
        ImGui::EndChild();
        return;
    }
    // Narrow windows have the curves below the list.
    const bool narrow = ImGui::GetContentRegionAvail().x < t.px(620);
    const float list = narrow ? 0 : t.px(270), height = narrow ? 0 : ImGui::GetContentRegionAvail().y;
    ui::begin_card(t, "runs", {list, height}, narrow ? ImGuiChildFlags_AutoResizeY : 0);
    run_list(ImGui::GetContentRegionAvail().x);
    for (size_t i = 0; i < app_.settings.runs.size(); i++) {
        ImGui::PushID(int(i));
        if (ui::icon_button(t, icon::close, "Watch no longer", false, 24)) {
            app_.settings.runs.erase(app_.settings.runs.begin() + ptrdiff_t(i));
            app_.save_settings();
            looked_ = -1;
            ImGui::PopID();
            break;
        }
        ImGui::SameLine();
        ui::small(
            t, t.colors.faint,
            ui::shortened(t.fonts.regular, t.size * t.scale * 0.86f, app_.settings.runs[i], ImGui::GetContentRegionAvail().x));
        ImGui::PopID();
    }
    ui::end_card();
    if (!narrow) ImGui::SameLine(0, t.px(14));
    ImGui::BeginChild("curves", {0, height}, narrow ? ImGuiChildFlags_AutoResizeY : 0);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const bool log_shown = !process_.log.empty();
    const float log_height = log_shown ? t.px(150) : 0;
    const ImVec2 cell =
        narrow ? ImVec2{room.x, t.px(150)} : ImVec2{(room.x - t.px(14)) / 2, (room.y - log_height - t.px(30)) / 3};
    for (size_t c = 0; c < curve_count; c++) {
        if (c % 2 && !narrow) ImGui::SameLine(0, t.px(14));
        ImGui::BeginGroup();
        curve(Curve(c), cell);
        ImGui::EndGroup();
    }
    if (log_shown) {
        ui::begin_card(t, "log", {0, log_height - t.px(8)}, 0);
        ImGui::PushFont(t.fonts.mono, t.size * 0.85f);
        ui::text(t, t.colors.dim, log_end_);
        ImGui::PopFont();
        if (ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - t.px(20)) ImGui::SetScrollHereY(1);
        ui::end_card();
    }
    ImGui::EndChild();
    ImGui::EndChild();
}

}  // namespace vkqat

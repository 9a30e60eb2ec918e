#include "app/ui/quality_view.h"

#include <algorithm>
#include <cmath>

#include "app/ui/widgets.h"
#include "runtime/support/human.h"

namespace vkqat {
namespace {

std::string value_text(const std::string& figure, double value) {
    if (figure == "bytes") return human_bytes(value);
    if (figure.find("accuracy") != figure.npos) return fmt::format("{:.1f} %", 100 * value);
    if (figure == "parameters") return human_count(value);
    return fmt::format("{:.4g}", value);
}

template <class Get>
std::vector<std::string> names(const std::vector<ModelResult>& models, Get get) {
    std::set<std::string> set;
    for (const ModelResult& m : models) set.insert(get(m));
    return {set.begin(), set.end()};
}

}  // namespace

QualityView::~QualityView() {
    if (thread_.joinable()) thread_.join();
}

void QualityView::load(const std::string& folder) {
    if (thread_.joinable()) thread_.join();
    loading_ = true;
    folder_ = folder;
    thread_ = std::thread([this, folder] {
        auto results = std::make_unique<Results>();
        std::string error;
        try {
            *results = read_results(folder);
        } catch (const std::exception& e) {
            error = e.what();
        }
        {
            std::lock_guard lock(mutex_);
            loaded_ = std::move(results);
            load_error_ = error;
        }
        loading_ = false;
        wake_();
    });
}

void QualityView::open_folder() {
    app_.open_dialog("Open a folder of results", true, "", [this](const std::filesystem::path& path) {
        app_.settings.results = path.string();
        app_.save_settings();
    });
}

std::vector<const ModelResult*> QualityView::filtered() const {
    std::vector<const ModelResult*> shown;
    for (const ModelResult& m : results_.models)
        if (!hidden_methods_.count(m.method) && !hidden_sizes_.count(m.size)) shown.push_back(&m);
    return shown;
}

bool QualityView::figure_picker(const char* label, std::string& figure, float width) {
    bool changed = false;
    ImGui::SetNextItemWidth(width);
    if (ImGui::BeginCombo(label, figure.c_str())) {
        for (const std::string& name : results_.figures)
            if (ImGui::Selectable(name.c_str(), name == figure)) figure = name, changed = true;
        ImGui::EndCombo();
    }
    return changed;
}

void QualityView::controls() {
    Theme& t = app_.theme;
    ImGui::AlignTextToFramePadding();
    ui::text(t, t.colors.dim, "Quality");
    ImGui::SameLine();
    figure_picker("##Quality", y_, t.px(170));
    ImGui::SameLine();
    ui::text(t, t.colors.dim, "against");
    ImGui::SameLine();
    figure_picker("##Against", x_, t.px(170));
    auto check = [&](const char* label, bool& on) {
        ui::same_line_if_it_fits(ImGui::GetFrameHeight() + ImGui::GetStyle().ItemInnerSpacing.x + ImGui::CalcTextSize(label).x);
        ImGui::Checkbox(label, &on);
    };
    check("log x", log_x_);
    check("log y", log_y_);
    check("Pareto front", lines_);
    check("Equal memory", equal_memory_);
    ui::hint(t, "A line at the memory of each 16-bit model: what stands left of it takes less");
    ui::at_right(t.px(184));
    auto save_as = [&](const char* ending) {
        const bool svg = ending == std::string(".svg");
        const std::string text = svg ? to_svg(last_scene_, plot_style(t)) : "";
        app_.open_dialog(
            svg ? "Save the plot as SVG into…" : "Save the plot as PNG into…", true, "",
            [this, text, ending, svg](const std::filesystem::path& folder) {
                std::filesystem::path file = folder / fmt::format("quality{}", ending);
                std::error_code error;
                for (int i = 2; std::filesystem::exists(file, error); i++) file = folder / fmt::format("quality-{}{}", i, ending);
                if (svg) {
                    app_.store.write(file, text);
                    app_.say("Saved " + file.string());
                } else {
                    app_.capture = Capture{plot_at_, {plot_at_.x + last_scene_.width, plot_at_.y + last_scene_.height}, file};
                }
            });
    };
    if (ui::button(t, icon::download, "SVG##Save as SVG", {t.px(88), 0})) save_as(".svg");
    ui::hint(t, "Save the plot as SVG");
    ImGui::SameLine(0, t.px(8));
    if (ui::button(t, icon::download, "PNG##Save as PNG", {t.px(88), 0})) save_as(".png");
    ui::hint(t, "Save the plot as PNG, as large as it is on the screen");
    auto filters = [&](const char* title, const std::vector<std::string>& all, std::set<std::string>& hidden) {
        if (all.size() < 2) return;
        ImGui::AlignTextToFramePadding();
        ui::text(t, t.colors.dim, title);
        for (const std::string& name : all) {
            ImGui::SameLine();
            ImGui::PushID(title);
            bool on = !hidden.count(name);
            if (ImGui::Checkbox(name.empty() ? "other" : name.c_str(), &on))
                on ? void(hidden.erase(name)) : void(hidden.insert(name));
            ImGui::PopID();
        }
    };
    filters("Methods", names(results_.models, [](auto& m) { return m.method; }), hidden_methods_);
    filters("Sizes", names(results_.models, [](auto& m) { return m.size; }), hidden_sizes_);
}

void QualityView::scatter(const std::vector<const ModelResult*>& shown, ImVec2 size) {
    Theme& t = app_.theme;
    const std::vector<std::string> methods = names(results_.models, [](auto& m) { return m.method; });
    Plot plot;
    plot.x = {axis_title(x_), log_x_, x_ == "bytes", 0, 0};
    plot.y = {axis_title(y_), log_y_, y_ == "bytes", 0, 0};
    if (lines_) {
        PlotSeries front;
        front.name = "Pareto front";
        front.color = plot_color(t, 7);
        front.width = 1.5;
        for (size_t i : pareto_front(shown, x_, y_)) front.points.push_back({shown[i]->figures.at(x_), shown[i]->figures.at(y_)});
        plot.series.push_back(std::move(front));
    }
    for (size_t m = 0; m < methods.size(); m++) {
        PlotSeries series;
        series.name = methods[m].empty() ? "other" : methods[m];
        series.color = plot_color(t, m);
        series.line = false;
        series.marks = true;
        for (const ModelResult* r : shown) {
            const auto x = r->figures.find(x_), y = r->figures.find(y_);
            if (r->method == methods[m] && x != r->figures.end() && y != r->figures.end())
                series.points.push_back({x->second, y->second});
        }
        plot.series.push_back(std::move(series));
    }
    if (equal_memory_ && x_ == "bytes")
        for (const ModelResult* r : shown)
            if (r->bits >= 16 && r->figures.count(x_)) plot.vertical.push_back(r->figures.at(x_));
    const DrawnPlot drawn = draw_plot(t, "scatter", plot, size);
    last_scene_ = drawn.scene;
    plot_at_ = drawn.at;
    // The nearest point under the mouse, and the chosen one.
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const ModelResult* nearest = nullptr;
    float best = t.px(18);
    ImDrawList* draw = ImGui::GetWindowDrawList();
    for (const ModelResult* r : shown) {
        const auto x = r->figures.find(x_), y = r->figures.find(y_);
        if (x == r->figures.end() || y == r->figures.end()) continue;
        const ImVec2 p{drawn.at.x + drawn.scene.to_x(x->second), drawn.at.y + drawn.scene.to_y(y->second)};
        if (r->name == chosen_) draw->AddCircle(p, t.px(9), t.colors.text, 0, t.px(2));
        const float distance = std::hypot(p.x - mouse.x, p.y - mouse.y);
        if (drawn.hovered && distance < best) best = distance, nearest = r;
    }
    if (nearest) {
        if (ImGui::BeginTooltip()) {
            ImGui::PushFont(t.fonts.bold, 0);
            ui::text(t, t.colors.text, nearest->name);
            ImGui::PopFont();
            for (const std::string& figure : {x_, y_})
                ui::text(t, t.colors.dim, fmt::format("{}: {}", figure, value_text(figure, nearest->figures.at(figure))));
            if (!nearest->weights.empty()) ui::text(t, t.colors.dim, nearest->weights);
            ImGui::EndTooltip();
        }
        if (drawn.clicked) chosen_ = nearest->name;
    }
    ui::note("plot", fmt::format("{} points of {} against {}", shown.size(), y_, x_));
}

void QualityView::table(const std::vector<const ModelResult*>& shown, ImVec2 size) {
    Theme& t = app_.theme;
    std::vector<std::string> columns{"bits per weight", "bytes", "tokens/s", "perplexity", "mean accuracy"};
    std::erase_if(columns, [&](const std::string& c) {
        return std::find(results_.figures.begin(), results_.figures.end(), c) == results_.figures.end();
    });
    for (const std::string& axis : {y_, x_})
        if (std::find(columns.begin(), columns.end(), axis) == columns.end()) columns.push_back(axis);
    if (!ImGui::BeginTable("models", 2 + int(columns.size()),
                           ImGuiTableFlags_Sortable | ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY | ImGuiTableFlags_Resizable,
                           size))
        return;
    ImGui::TableSetupScrollFreeze(0, 1);
    ImGui::TableSetupColumn("Model", ImGuiTableColumnFlags_DefaultSort, 3);
    ImGui::TableSetupColumn("Method", 0, 1.4f);
    for (const std::string& c : columns) ImGui::TableSetupColumn(c.c_str(), 0, 1.4f);
    ImGui::TableHeadersRow();
    std::vector<const ModelResult*> rows = shown;
    if (const ImGuiTableSortSpecs* specs = ImGui::TableGetSortSpecs(); specs && specs->SpecsCount > 0) {
        const int column = specs->Specs[0].ColumnIndex;
        const bool down = specs->Specs[0].SortDirection == ImGuiSortDirection_Descending;
        std::stable_sort(rows.begin(), rows.end(), [&](const ModelResult* a, const ModelResult* b) {
            if (down) std::swap(a, b);
            if (column == 0) return a->name < b->name;
            if (column == 1) return a->method < b->method;
            const std::string& figure = columns[size_t(column) - 2];
            const auto x = a->figures.find(figure), y = b->figures.find(figure);
            return (x == a->figures.end() ? INFINITY : x->second) < (y == b->figures.end() ? INFINITY : y->second);
        });
    }
    ImGuiListClipper clipper;
    clipper.Begin(int(rows.size()));
    while (clipper.Step())
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; i++) {
            const ModelResult& r = *rows[size_t(i)];
            ImGui::TableNextRow();
            ImGui::TableNextColumn();
            if (ImGui::Selectable(r.name.c_str(), r.name == chosen_, ImGuiSelectableFlags_SpanAllColumns)) chosen_ = r.name;
            ImGui::TableNextColumn();
            ui::text(t, t.colors.dim, r.method);
            for (const std::string& c : columns) {
                ImGui::TableNextColumn();
                const auto found = r.figures.find(c);
                if (found != r.figures.end()) ui::text(t, t.colors.text, value_text(c, found->second));
            }
        }
    ImGui::EndTable();
}

// The bits of every matrix as a table that can be clicked, and how the weights of the chosen one are spread, with its centroids.
void QualityView::layers(const ModelResult& r) {
    Theme& t = app_.theme;
    if (weights_of_ != r.model) {
        weights_of_ = r.model;
        weights_ = {};
        ask_weights("");
    }
    if (auto read = reading_.take()) weights_ = std::move(*read);
    if (const std::string error = reading_.error(); !error.empty()) ui::wrapped(t, t.colors.bad, error);
    if (weights_.parts.empty()) return;
    ImGui::Dummy({0, t.px(6)});
    ui::heading(t, "Bits by layer", 1);
    constexpr const char* columns[] = {"q", "k", "v", "o", "gate", "up", "down"};
    const float number = t.px(26), width = (ImGui::GetContentRegionAvail().x - number) / 7, height = t.px(20);
    const float text = t.size * t.scale * 0.78f;
    ImDrawList* draw = ImGui::GetWindowDrawList();
    auto centered = [&](ImVec2 at, float w, ImU32 color, const std::string& what) {
        const ImVec2 box = t.fonts.regular->CalcTextSizeA(text, FLT_MAX, 0, what.c_str());
        draw->AddText(t.fonts.regular, text, {at.x + (w - box.x) / 2, at.y + (height - box.y) / 2}, color, what.c_str());
    };
    const ImVec2 top = ImGui::GetCursorScreenPos();
    for (size_t i = 0; i < 7; i++) centered({top.x + number + width * float(i), top.y}, width, t.colors.dim, columns[i]);
    ImGui::Dummy({0, height});
    std::string chosen;
    size_t column = 0;
    ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2(0, t.px(2)));
    for (const WeightPart& p : weights_.parts) {
        if (p.tensor.empty()) continue;
        if (column == 0) {
            const ImVec2 at = ImGui::GetCursorScreenPos();
            centered(at, number, t.colors.faint, std::to_string(p.layer));
            ImGui::Dummy({number, height});
        }
        ImGui::SameLine(0, 0);
        const ImVec2 at = ImGui::GetCursorScreenPos();
        if (ImGui::InvisibleButton(p.tensor.c_str(), {width, height}, ImGuiButtonFlags_EnableNav)) chosen = p.tensor;
        ui::hint(t, fmt::format("{}\n{:.3g} bits, {}", p.tensor, p.bits, human_bytes(double(p.bytes))));
        const float strength = std::clamp(float(std::log2(p.bits + 1) / 5), 0.1f, 1.0f);
        draw->AddRectFilled(at, {at.x + width - t.px(2), at.y + height}, with_alpha(t.colors.series[0], 0.55f * strength),
                            t.px(3));
        if (p.tensor == weights_.tensor || ImGui::IsItemFocused())
            draw->AddRect(at, {at.x + width - t.px(2), at.y + height}, t.colors.text, t.px(3), 0, t.px(1.5f));
        centered(at, width - t.px(2), t.colors.text, fmt::format("{:.3g}", p.bits));
        column = (column + 1) % 7;
    }
    ImGui::PopStyleVar();
    if (!chosen.empty()) ask_weights(chosen);
    ui::note("bits", fmt::format("{} matrices", std::count_if(weights_.parts.begin(), weights_.parts.end(),
                                                              [](const WeightPart& p) { return !p.tensor.empty(); })));
    histogram();
}

void QualityView::histogram() {
    Theme& t = app_.theme;
    const WeightSpread& h = weights_.histogram;
    if (h.shares.empty()) return;
    ImGui::Dummy({0, t.px(6)});
    ui::small(t, t.colors.dim, "Weights of " + weights_.tensor);
    const ImVec2 at = ImGui::GetCursorScreenPos(), size{ImGui::GetContentRegionAvail().x, t.px(96)};
    ImGui::Dummy(size);
    ImDrawList* draw = ImGui::GetWindowDrawList();
    draw->AddRectFilled(at, {at.x + size.x, at.y + size.y}, t.colors.background, t.px(4));
    const double low = h.edges.front(), high = h.edges.back();
    const double most = *std::max_element(h.shares.begin(), h.shares.end());
    auto to_x = [&](double v) { return at.x + float((v - low) / (high - low)) * size.x; };
    for (size_t i = 0; i < h.shares.size(); i++) {
        const float y = at.y + size.y - float(h.shares[i] / most) * (size.y - t.px(6));
        const float gap = h.shares.size() <= 16 ? 1 : 0;
        draw->AddRectFilled({to_x(h.edges[i]), y}, {to_x(h.edges[i + 1]) - gap, at.y + size.y},
                            with_alpha(t.colors.series[0], 0.5f));
    }
    for (double c : h.centroids) draw->AddLine({to_x(c), at.y}, {to_x(c), at.y + size.y}, t.colors.warn, t.px(1.5f));
    if (ImGui::IsItemHovered()) {
        const double v = low + double((ImGui::GetIO().MousePos.x - at.x) / size.x) * (high - low);
        for (size_t i = 0; i < h.shares.size(); i++)
            if (v >= h.edges[i] && v < h.edges[i + 1])
                ImGui::SetTooltip("%s: %.2f %% of the weights",
                                  (h.centroids.empty() ? fmt::format("{:.3g} to {:.3g}", h.edges[i], h.edges[i + 1])
                                                       : fmt::format("centroid {:.3g}", h.centroids[i]))
                                      .c_str(),
                                  100 * h.shares[i]);
    }
    const std::string below = h.centroids.empty() ? fmt::format("{:.3g} to {:.3g}, four root mean squares", low, high)
                                                  : fmt::format("{} centroids at {} bit{}, blocks of {}; in scales of the blocks",
                                                                h.centroids.size(), h.bits, h.bits == 1 ? "" : "s", h.block);
    ui::small(t, t.colors.faint, below);
    ui::note("histogram", fmt::format("{}: {}", weights_.tensor, below));
}

// All parts of the chosen model, and the spread of one of its matrices; without a name that of the middle.
void QualityView::ask_weights(const std::string& tensor) {
    reading_.ask([model = weights_of_, tensor, parts = weights_.parts] {
        Weights w{parts.empty() ? weight_parts(model) : parts, tensor, {}};
        int64_t last = 0;
        for (const WeightPart& p : w.parts) last = std::max(last, p.layer);
        if (w.tensor.empty())
            for (const WeightPart& p : w.parts)
                if (p.name == "gate_proj" && p.layer <= last / 2) w.tensor = p.tensor;
        w.histogram = weight_histogram(model, w.tensor);
        return w;
    });
}

void QualityView::details(ImVec2 size) {
    Theme& t = app_.theme;
    const ModelResult* r = nullptr;
    for (const ModelResult& m : results_.models)
        if (m.name == chosen_) r = &m;
    ui::begin_card(t, "details", size, size.y > 0 ? 0 : ImGuiChildFlags_AutoResizeY);
    if (!r) {
        ui::text(t, t.colors.dim, "Click a point or a row to see a model.");
        ui::end_card();
        return;
    }
    ui::heading(t, r->name, 1.1f);
    ui::small(t, t.colors.dim, fmt::format("{}{}{}", r->weights, r->device.empty() ? "" : "  ·  ", r->device));
    for (const auto& [name, value] : r->figures) {
        ui::small(t, t.colors.dim, name);
        ImGui::SameLine(t.px(190));
        ui::small(t, t.colors.text, value_text(name, value));
    }
    std::error_code error;
    const bool there = !r->model.empty() && std::filesystem::exists(r->model, error);
    ImGui::BeginDisabled(!there);
    if (ui::primary_button(t, icon::play, "Load and chat")) app_.load_model(r->model), app_.view = View::chat;
    ImGui::EndDisabled();
    if (!there) ui::hint(t, "The model's folder is not there: " + r->model.string());
    if (there) layers(*r);
    if (!r->sensitivity.empty()) {
        ImGui::Dummy({0, t.px(6)});
        ui::heading(t, "Sensitivity by layer", 1);
        double worst = 0;
        for (const LayerFigure& l : r->sensitivity) worst = std::max(worst, l.error);
        for (const LayerFigure& l : r->sensitivity) {
            ui::small(t, t.colors.dim, fmt::format("{}, {} bits", l.layer, l.bits));
            ImGui::SameLine(t.px(190));
            ui::meter(t, worst > 0 ? float(l.error / worst) : 0, t.colors.accent,
                      {std::max(t.px(20), ImGui::GetContentRegionAvail().x - t.px(64)), t.px(6)});
            ImGui::SameLine();
            ui::small(t, t.colors.faint, fmt::format("{:.3g}", l.error));
        }
    }
    ui::end_card();
}

void QualityView::draw(ImVec2) {
    Theme& t = app_.theme;
    if (!loading_ && folder_ != app_.settings.results) load(app_.settings.results);
    {
        std::lock_guard lock(mutex_);
        if (loaded_) {
            results_ = std::move(*loaded_);
            loaded_.reset();
            auto has = [&](const std::string& f) {
                return std::find(results_.figures.begin(), results_.figures.end(), f) != results_.figures.end();
            };
            if (!results_.figures.empty() && !has(y_)) y_ = has("perplexity") ? "perplexity" : results_.figures.back();
            if (!results_.figures.empty() && !has(x_)) x_ = has("bytes") ? "bytes" : results_.figures.front();
            chosen_.clear();
        }
    }
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(t.px(28), t.px(24)));
    ImGui::BeginChild("quality", {0, 0}, ImGuiChildFlags_AlwaysUseWindowPadding);
    ImGui::PopStyleVar();
    const float width = ImGui::GetContentRegionAvail().x;
    ui::heading(t, "Memory against quality", 1.6f);
    ui::at_right(t.px(182));
    if (ui::primary_button(t, icon::folder, "Open results", {t.px(140), t.px(34)})) open_folder();
    ImGui::SameLine();
    if (ui::icon_button(t, icon::again, "Read again", false, 34)) folder_.clear();
    if (app_.settings.results.empty()) {
        if (ui::empty_state(
                t, icon::quality, "Which bits pay?",
                "Open a folder that `vkqat profile sweep` has written: memory, speed, perplexity and tasks of every model.",
                icon::folder, "Open a sweep…"))
            open_folder();
    } else if (!load_error_.empty()) {
        ui::wrapped(t, t.colors.bad, load_error_);
    } else if (results_.models.empty()) {
        ui::text(t, t.colors.dim, loading_ ? "Reading…" : "There are no results in " + app_.settings.results);
        for (const std::string& bad : results_.damaged) ui::small(t, t.colors.bad, bad);
    } else {
        controls();
        const std::vector<const ModelResult*> shown = filtered();
        const float height = ImGui::GetContentRegionAvail().y, right = width > t.px(900) ? t.px(330) : 0;
        // Narrow windows have the chosen model below, and scroll.
        const ImVec2 scatter_size{width - right - (right > 0 ? t.px(14) : 0),
                                  right > 0 ? height * 0.58f : std::max(t.px(240), height * 0.55f)};
        ImGui::BeginGroup();
        scatter(shown, scatter_size);
        table(shown, {scatter_size.x, right > 0 ? ImGui::GetContentRegionAvail().y : t.px(200)});
        ImGui::EndGroup();
        if (right > 0) {
            ImGui::SameLine(0, t.px(14));
            details({right, height});
        } else {
            details({width, 0});
        }
        if (!results_.damaged.empty()) {
            ui::small(t, t.colors.bad, fmt::format("{} files could not be read", results_.damaged.size()));
            ui::hint(t, results_.damaged.front());
        }
    }
    ImGui::EndChild();
}

}  // namespace vkqat

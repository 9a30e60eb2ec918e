#include "app/ui/plot_view.h"

#include <algorithm>

#include "app/ui/widgets.h"

namespace vkqat {
namespace {

uint32_t hex(ImU32 color) { return (color & 255) << 16 | (color >> 8 & 255) << 8 | (color >> 16 & 255); }
ImU32 packed(uint32_t color) { return IM_COL32(color >> 16 & 255, color >> 8 & 255, color & 255, 255); }

// Text turned by a quarter to the left: drawn as usual, then its corners are moved.
void vertical_text(ImDrawList* draw, ImFont* font, float size, ImVec2 at, ImU32 color, const std::string& text) {
    const ImVec2 box = font->CalcTextSizeA(size, FLT_MAX, 0, text.c_str());
    const int first = draw->VtxBuffer.Size;
    const ImVec2 start{at.x - box.x / 2, at.y - box.y / 2};
    draw->PushClipRectFullScreen();
    draw->AddText(font, size, start, color, text.c_str());
    draw->PopClipRect();
    for (int i = first; i < draw->VtxBuffer.Size; i++) {
        ImVec2& p = draw->VtxBuffer[i].pos;
        p = {at.x + (p.y - at.y), at.y - (p.x - at.x)};
    }
}

}  // namespace

PlotStyle plot_style(const Theme& t) {
    return {hex(t.colors.background),
            hex(t.colors.text),
            hex(t.colors.dim),
            hex(t.colors.border),
            double(t.size * t.scale) * 0.82,
            true};
}

uint32_t plot_color(const Theme& t, size_t series) { return hex(t.colors.series[series % 8]); }

DrawnPlot draw_plot(const Theme& t, const char* id, const Plot& plot, ImVec2 size) {
    DrawnPlot result{lay_out(plot, size.x, size.y, plot_style(t)), ImGui::GetCursorScreenPos(), false, false};
    result.clicked = ImGui::InvisibleButton(id, {std::max(1.0f, size.x), std::max(1.0f, size.y)});
    ImDrawList* draw = ImGui::GetWindowDrawList();
    const ImVec2 at = result.at;
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const PlotScene& scene = result.scene;
    result.hovered = ImGui::IsItemHovered() && mouse.x >= at.x + scene.left && mouse.x <= at.x + scene.right;
    std::vector<ImVec2> points;
    for (const PlotShape& s : scene.shapes) {
        const ImVec2 p{at.x + s.points[0].first, at.y + s.points[0].second};
        switch (s.kind) {
            case PlotShape::Kind::line:
                points.clear();
                for (auto [x, y] : s.points) points.emplace_back(at.x + x, at.y + y);
                draw->PushClipRect({at.x + scene.left - 1, at.y + scene.top - 1},
                                   {at.x + scene.right + 1, at.y + scene.bottom + 1}, true);
                draw->AddPolyline(points.data(), int(points.size()), packed(s.color), 0, s.size * t.scale);
                draw->PopClipRect();
                break;
            case PlotShape::Kind::mark: draw->AddCircleFilled(p, s.size, packed(s.color)); break;
            case PlotShape::Kind::box:
                draw->AddRectFilled(p, {at.x + s.points[1].first, at.y + s.points[1].second}, packed(s.color), t.px(2));
                break;
            case PlotShape::Kind::text: {
                if (s.vertical) {
                    vertical_text(draw, t.fonts.regular, s.size, p, packed(s.color), s.text);
                    break;
                }
                const ImVec2 box = t.fonts.regular->CalcTextSizeA(s.size, FLT_MAX, 0, s.text.c_str());
                draw->AddText(t.fonts.regular, s.size, {p.x - box.x * float(s.anchor) / 2, p.y - box.y / 2}, packed(s.color),
                              s.text.c_str());
                break;
            }
        }
    }
    return result;
}

}  // namespace vkqat

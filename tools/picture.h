// Pictures to files, and plots that several subcommands draw.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "evaluation/figure.h"
#include "evaluation/results.h"

namespace vkqat {

// By the name's end .svg or .png. A PNG is made by `rsvg-convert` (package librsvg2-bin), at twice the size for screens of high
// density. Error if that program is missing or fails.
void write_picture(const std::filesystem::path& file, const Figure& figure, Theme theme);

Figure loss_figure(const std::vector<std::filesystem::path>& runs, bool by_tokens);
// metric empty: perplexity where points have it, else their first one. by_bits: against bits per weight, else bytes.
Figure quality_figure(const std::vector<ResultPoint>& points, std::string metric, bool by_bits);
Figure speed_figure(const std::vector<ResultPoint>& points);                                 // decode tokens/s against bits
Figure quality_at_speed_figure(const std::vector<ResultPoint>& points, std::string metric);  // quality against tokens/s
// Of `vkqat bench decode --cached ... --json`: tokens/s against cached positions.
Figure length_figure(const std::vector<std::filesystem::path>& files);
// Weights of a linear layer, the middle one's gate_proj where `layer` is empty: of a model directory or GGUF file, packed (over
// their block's scale, with the centroids) or dense; or of a checkpoint or run, as they are trained, with the centroids if it has
// some.
Figure weights_figure(const std::filesystem::path& path, const std::string& layer);
// Of `vkqat profile --json` or `vkqat bench --json`: time of nodes; and per-layer errors of a sensitivity file.
std::vector<Figure> json_figures(const std::filesystem::path& file);

}  // namespace vkqat

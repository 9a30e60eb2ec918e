#include "evaluation/scaling_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

using Vector = std::vector<double>;

// x of a x = b for a symmetric positive definite a, by elimination with the largest pivots; false if it is singular.
bool solve(std::vector<Vector> a, Vector b, Vector& x) {
    const size_t n = b.size();
    for (size_t i = 0; i < n; i++) {
        size_t pivot = i;
        for (size_t r = i + 1; r < n; r++)
            if (std::abs(a[r][i]) > std::abs(a[pivot][i])) pivot = r;
        if (!(std::abs(a[pivot][i]) > 1e-13)) return false;
        std::swap(a[i], a[pivot]);
        std::swap(b[i], b[pivot]);
        for (size_t r = i + 1; r < n; r++) {
            const double f = a[r][i] / a[i][i];
            for (size_t c = i; c < n; c++) a[r][c] -= f * a[i][c];
            b[r] -= f * b[i];
        }
    }
    x.assign(n, 0);
    for (size_t i = n; i-- > 0;) {
        x[i] = b[i];
        for (size_t c = i + 1; c < n; c++) x[i] -= a[i][c] * x[c];
        x[i] /= a[i][i];
    }
    return true;
}

// Sum of squares of y - columns * x for the best x >= 0: of all sets of columns that take part, the best one that is allowed.
double nonnegative_least_squares(const std::vector<Vector>& columns, const Vector& y, Vector& best) {
    double lowest = INFINITY;
    for (unsigned set = 0; set < 1u << columns.size(); set++) {
        std::vector<size_t> used;
        for (size_t i = 0; i < columns.size(); i++)
            if (set >> i & 1) used.push_back(i);
        std::vector<Vector> a(used.size(), Vector(used.size()));
        Vector b(used.size()), x, size(used.size());
        for (size_t i = 0; i < used.size(); i++) {
            for (double v : columns[used[i]]) size[i] += v * v;
            size[i] = std::sqrt(size[i]);
        }
        for (size_t i = 0; i < used.size(); i++)
            for (size_t k = 0; k < y.size(); k++) {
                b[i] += columns[used[i]][k] * y[k] / size[i];
                for (size_t j = 0; j < used.size(); j++)
                    a[i][j] += columns[used[i]][k] * columns[used[j]][k] / (size[i] * size[j]);
            }
        if (!solve(a, b, x) || std::any_of(x.begin(), x.end(), [](double v) { return !(v >= 0); })) continue;
        Vector all(columns.size());
        for (size_t i = 0; i < used.size(); i++) all[used[i]] = x[i] / size[i];
        double sum = 0;
        for (size_t k = 0; k < y.size(); k++) {
            double r = y[k];
            for (size_t i = 0; i < columns.size(); i++) r -= columns[i][k] * all[i];
            sum += r * r;
        }
        if (sum < lowest) {
            lowest = sum;
            best = all;
        }
    }
    return lowest;
}

using Simplex3 = std::array<double, 3>;

// Nelder and Mead, Comput. J. 7 (1965), with their coefficients.
template <class F>
Simplex3 minimise(const F& f, const Simplex3& start, double& lowest) {
    struct Corner {
        Simplex3 x;
        double f;
    };
    std::vector<Corner> s{{start, f(start)}};
    for (size_t i = 0; i < 3; i++) {
        Simplex3 x = start;
        x[i] += 0.3;
        s.push_back({x, f(x)});
    }
    for (int round = 0; round < 600; round++) {
        std::stable_sort(s.begin(), s.end(), [](auto& a, auto& b) { return a.f < b.f; });
        double size = 0;
        for (size_t i = 0; i < 3; i++) size = std::max(size, std::abs(s[3].x[i] - s[0].x[i]));
        if (size < 1e-10) break;
        Simplex3 centre{};
        for (size_t c = 0; c < 3; c++)
            for (size_t i = 0; i < 3; i++) centre[i] += s[c].x[i] / 3;
        auto at = [&](double t) {
            Simplex3 x;
            for (size_t i = 0; i < 3; i++) x[i] = centre[i] + t * (s[3].x[i] - centre[i]);
            return Corner{x, f(x)};
        };
        Corner reflected = at(-1);
        if (reflected.f < s[0].f) {
            Corner further = at(-2);
            s[3] = further.f < reflected.f ? further : reflected;
        } else if (reflected.f < s[2].f) {
            s[3] = reflected;
        } else {
            Corner nearer = at(reflected.f < s[3].f ? -0.5 : 0.5);
            if (nearer.f < std::min(reflected.f, s[3].f)) {
                s[3] = nearer;
            } else {
                for (size_t c = 1; c < 4; c++) {
                    for (size_t i = 0; i < 3; i++) s[c].x[i] = 0.5 * (s[c].x[i] + s[0].x[i]);
                    s[c].f = f(s[c].x);
                }
            }
        }
    }
    std::stable_sort(s.begin(), s.end(), [](auto& a, auto& b) { return a.f < b.f; });
    lowest = s[0].f;
    return s[0].x;
}

bool varies(const std::vector<ScalingPoint>& points, double ScalingPoint::*field) {
    return std::any_of(points.begin(), points.end(), [&](const ScalingPoint& p) { return p.*field != points[0].*field; });
}

}  // namespace

double ScalingLaw::effective_parameters(double parameters, double bits) const { return parameters * -std::expm1(-bits / gamma); }

double ScalingLaw::loss(double parameters, double tokens, double bits) const {
    return A * std::pow(effective_parameters(parameters, bits), -alpha) + B * std::pow(tokens, -beta) + E;
}

ScalingFit fit_scaling(const std::vector<ScalingPoint>& points) {
    for (const ScalingPoint& p : points)
        for (double v : {p.parameters, p.tokens, p.bits, p.loss})
            if (!(v > 0) || !std::isfinite(v))
                fail("scaling fit: expected parameters, tokens, bits and loss above 0, found {}", v);
    ScalingFit fit;
    if (!points.empty()) {
        fit.bits_vary = varies(points, &ScalingPoint::bits);
        fit.tokens_vary = varies(points, &ScalingPoint::tokens);
        std::set<double> tokens;
        for (const ScalingPoint& p : points) tokens.insert(p.tokens);
        fit.beta_known = tokens.size() >= 3;
    }
    const size_t unknowns = 3 + size_t(fit.bits_vary) + 2 * size_t(fit.tokens_vary);
    if (points.size() < unknowns)
        fail("scaling fit: {} unknowns need at least as many results, found {}", unknowns, points.size());

    // Sizes relative to their geometric means, so that the columns are of like size.
    double mean_n = 0, mean_d = 0;
    for (const ScalingPoint& p : points) {
        mean_n += std::log(p.parameters) / double(points.size());
        mean_d += std::log(p.tokens) / double(points.size());
    }
    Vector y;
    for (const ScalingPoint& p : points) y.push_back(p.loss);
    Vector linear;
    auto residual = [&](const Simplex3& x) {
        if (x[0] < -5 || x[0] > 1.5 || x[1] < -5 || x[1] > 1.5 || x[2] < -4 || x[2] > 5) return double(INFINITY);
        const double alpha = std::exp(x[0]), beta = std::exp(x[1]), gamma = std::exp(x[2]);
        std::vector<Vector> columns(fit.tokens_vary ? 3 : 2);
        for (const ScalingPoint& p : points) {
            columns[0].push_back(1);
            columns[1].push_back(std::exp(-alpha * (std::log(p.parameters * -std::expm1(-p.bits / gamma)) - mean_n)));
            if (fit.tokens_vary) columns[2].push_back(std::exp(-beta * (std::log(p.tokens) - mean_d)));
        }
        return nonnegative_least_squares(columns, y, linear);
    };
    double lowest = INFINITY;
    Simplex3 best{};
    for (double alpha : {-2.5, -1.2, -0.4})
        for (double beta : {-2.5, -1.2, -0.4})
            for (double gamma : {-0.5, 0.7, 1.8}) {
                double found = INFINITY;
                Simplex3 x = minimise(residual, {alpha, beta, gamma}, found);
                x = minimise(residual, x, found);  // a new simplex where the first one has collapsed
                if (found < lowest) {
                    lowest = found;
                    best = x;
                }
            }
    if (!std::isfinite(lowest)) fail("scaling fit: no law of this form comes near these results");
    residual(best);
    ScalingLaw& law = fit.law;
    law.alpha = std::exp(best[0]);
    law.gamma = std::exp(best[2]);
    law.E = linear[0];
    law.A = linear[1] * std::exp(law.alpha * mean_n);
    if (fit.tokens_vary) {
        law.beta = std::exp(best[1]);
        law.B = linear[2] * std::exp(law.beta * mean_d);
    }
    for (const ScalingPoint& p : points) {
        fit.residuals.push_back(p.loss - law.loss(p.parameters, p.tokens, p.bits));
        fit.rms += fit.residuals.back() * fit.residuals.back() / double(points.size());
    }
    fit.rms = std::sqrt(fit.rms);
    return fit;
}

BestBits best_bits(const ScalingLaw& law, double bytes, double tokens, const Vector& candidates, double overhead) {
    BestBits best;
    for (double bits : candidates) {
        const double parameters = 8 * bytes / (bits + (bits < 16 ? overhead : 0)), loss = law.loss(parameters, tokens, bits);
        if (best.bits == 0 || loss < best.loss) best = {bits, parameters, loss};
    }
    if (best.bits == 0) fail("best bits: no candidates");
    return best;
}

}  // namespace vkqat

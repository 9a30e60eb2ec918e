// The law of 1-Bit Wonder (arXiv 2602.15563) for models of few bits, fitted to a sweep:
//   loss = A N_eff^-alpha + B D^-beta + E,   N_eff = N (1 - exp(-bits / gamma))
// with N parameters, D tokens of training, and a loss in nats per token.
#pragma once

#include <vector>

namespace vkqat {

struct ScalingPoint {
    double parameters = 0, tokens = 0, bits = 0;  // all above 0; 16 bits: full precision
    double loss = 0;
};

struct ScalingLaw {
    double A = 0, alpha = 0, B = 0, beta = 0, E = 0, gamma = 0;
    double effective_parameters(double parameters, double bits) const;
    double loss(double parameters, double tokens, double bits) const;
};

struct ScalingFit {
    ScalingLaw law;
    std::vector<double> residuals;  // measured - fitted, by point
    double rms = 0;                 // of the residuals
    bool bits_vary = true;          // false: gamma says nothing
    bool tokens_vary = true;        // false: B and beta say nothing and are 0; E holds what tokens would explain
    bool beta_known = true;         // false: fewer than three numbers of tokens, which many pairs of beta and E explain
};

// Least squares: A, B and E, none negative, by linear algebra for given exponents (variable projection), those by Nelder and
// Mead's method from many starts. Error: fewer points than unknowns, or values that are not above 0.
ScalingFit fit_scaling(const std::vector<ScalingPoint>& points);

// The bits that reach the lowest loss when weights may take `bytes` and training `tokens`: N = 8 bytes / (bits + overhead),
// where `overhead` bits per weight are scales (0.25: 16 bits for 64 weights). Of `candidates`; error if there is none.
struct BestBits {
    double bits = 0, parameters = 0, loss = 0;
};
BestBits best_bits(const ScalingLaw& law, double bytes, double tokens, const std::vector<double>& candidates, double overhead);

}  // namespace vkqat

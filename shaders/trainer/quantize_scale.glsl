// Statistics of a block of weights: their scale, and for `binary` their mean. The numbers are those of QuantizerKind and
// ScaleStatistic.
layout(constant_id = 2) const uint kind = 0;
const uint KIND_NONE = 0, KIND_NONLINEAR = 1, KIND_SYM_INT = 2, KIND_TERNARY = 3, KIND_BINARY = 4,
           KIND_INT_ASYM = 5, KIND_NF = 6, KIND_ONEBIT = 7;
layout(constant_id = 3) const uint statistic = 0;
const uint STATISTIC_NONE = 0, STATISTIC_ABSMAX = 1, STATISTIC_ABSMEAN = 2, STATISTIC_RMS = 3;

// What a weight adds to its block's sum (or, for absmax, maximum).
float contribution(float w) { return statistic == STATISTIC_RMS ? w * w : abs(w); }
float join(float a, float b) { return statistic == STATISTIC_ABSMAX ? max(a, b) : a + b; }
float join_subgroup(float a) { return statistic == STATISTIC_ABSMAX ? subgroupMax(a) : subgroupAdd(a); }

float scale_of(float joined, float elements) {
    const float eps = 1e-5;
    if (statistic == STATISTIC_ABSMAX) return max(eps, joined);
    if (statistic == STATISTIC_ABSMEAN) return max(eps, divide(joined, elements));
    if (statistic == STATISTIC_RMS) return max(eps, sqrt(divide(joined, elements)));
    return 1.0;
}

#version 460
//! variant kmeans_lloyd
// One subgroup per restart. With prefix sums over the bins, the mean of any run of bins is two differences, so that a Lloyd
// iteration costs some loads per centroid and not a pass over the data. Everything is in units of mean |x|.
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansLloydArgs a; };

const float LARGEST = 3.4e38;
shared float center[256], unsorted[256];
shared float boundary[257];  // between centroid i - 1 and i
shared uint edge[257];       // first bin of centroid i

float weight_of(uint begin, uint end) {
    if (a.weights == 0) return float(U32(a.counts).v[end] - U32(a.counts).v[begin]);
    return float(I64(a.weights).v[end] - I64(a.weights).v[begin]) * a.weight_unit;
}
float sum_of(uint begin, uint end) { return float(I64(a.sums).v[end] - I64(a.sums).v[begin]) * a.sum_unit; }

uint hash(uint x) {  // PCG
    uint state = x * 747796405u + 2891336453u;
    uint word = ((state >> ((state >> 28) + 4)) ^ state) * 277803737u;
    return (word >> 22) ^ word;
}

// k-means++ over points that are runs of bins: the next centroid is drawn with probability weight * squared distance to the
// nearest one so far, as the point whose exponential of that rate comes first.
void start(uint restart, uint lane) {
    uint bins_per_point = a.bins / a.points;
    F32 distances = F32(a.distances + uint64_t(restart) * a.points * 4);
    uint key = hash(U32(a.scalars).v[1] ^ hash(restart + 1));
    float last = 0.0;
    for (uint k = 0; k < a.levels; k++) {
        float first = LARGEST, chosen = last;
        for (uint j = lane; j < a.points; j += gl_WorkGroupSize.x) {
            float weight = weight_of(j * bins_per_point, (j + 1) * bins_per_point);
            if (weight <= 0.0) continue;
            float x = sum_of(j * bins_per_point, (j + 1) * bins_per_point) / weight;
            float distance = 1.0;
            if (k > 0) {
                distance = (x - last) * (x - last);
                if (k > 1) distance = min(distance, distances.v[j]);
                distances.v[j] = distance;
            }
            if (distance <= 0.0) continue;
            float uniform_number = (float(hash(key ^ hash(k * a.points + j)) >> 8) + 0.5) * (1.0 / 16777216.0);
            float time = -log(uniform_number) / (weight * distance);
            if (time < first) {
                first = time;
                chosen = x;
            }
        }
        float earliest = subgroupMin(first);
        if (earliest < LARGEST) last = subgroupShuffle(chosen, subgroupBallotFindLSB(subgroupBallot(first == earliest)));
        if (lane == 0) unsorted[k] = last;  // again the same one where there are fewer values than centroids
    }
    barrier();
    for (uint i = lane; i < a.levels; i += gl_WorkGroupSize.x) {
        float c = unsorted[i];
        uint rank = 0, j = 0;
        do {
            if (unsorted[j] < c || (unsorted[j] == c && j < i)) rank++;
            j++;
        } while (j < a.levels);
        center[rank] = c;
    }
}

void lloyd(uint lane) {
    for (uint i = lane; i <= a.levels; i += gl_WorkGroupSize.x) {
        edge[i] = i == a.levels ? a.bins : 0;
        boundary[i] = i == a.levels ? LARGEST : -LARGEST;
    }
    barrier();
    uint round = 0;
    bool more;
    do {
        // Assign. A bin that a boundary cuts goes to the side of its mean.
        float changed = 0.0;
        for (uint i = 1 + lane; i < a.levels; i += gl_WorkGroupSize.x) {
            float middle = 0.5 * (center[i - 1] + center[i]);
            uint bin = bin_of(middle, a.bins);
            float weight = weight_of(bin, bin + 1);
            if (weight > 0.0 && sum_of(bin, bin + 1) <= middle * weight) bin++;
            uint before = U32(a.counts).v[edge[i]], now = U32(a.counts).v[bin];
            changed += float(max(before, now) - min(before, now));
            edge[i] = bin;
            boundary[i] = middle;
        }
        barrier();
        // Move to the mean; one without members stays.
        for (uint i = lane; i < a.levels; i += gl_WorkGroupSize.x) {
            uint begin = edge[i], end = edge[i + 1];
            if (begin >= end) continue;
            float weight = weight_of(begin, end);
            if (weight > 0.0) center[i] = clamp(sum_of(begin, end) / weight, boundary[i], boundary[i + 1]);
        }
        changed = subgroupAdd(changed);
        round++;
        more = round < a.max_rounds && (changed > a.count_limit || round == 1);
        barrier();
    } while (more);
}

// The squared error over the points, but for what lies within them.
float squared_error(uint lane) {
    uint bins_per_point = a.bins / a.points;
    float total = 0.0;
    for (uint j = lane; j < a.points; j += gl_WorkGroupSize.x) {
        float weight = weight_of(j * bins_per_point, (j + 1) * bins_per_point);
        if (weight <= 0.0) continue;
        float x = sum_of(j * bins_per_point, (j + 1) * bins_per_point) / weight;
        uint index = 0;
        for (uint half_range = a.levels >> 1; half_range > 0; half_range >>= 1)
            if (x > 0.5 * (center[index + half_range - 1] + center[index + half_range])) index += half_range;
        total += weight * (x - center[index]) * (x - center[index]);
    }
    return subgroupAdd(total);
}

void main() {
    uint restart = workgroup_index(), lane = gl_SubgroupInvocationID;
    float mean = F32(a.header).v[0], fine = F32(a.header).v[1];
    bool warm = U32(a.scalars).v[2] != 0;
    F32 candidate = F32(a.candidates + uint64_t(restart) * (a.levels + 1) * 4);
    if (fine == 0.0 || (warm && restart > 0) || weight_of(0, a.bins) <= 0.0) {
        for (uint i = lane; i <= a.levels; i += gl_WorkGroupSize.x) candidate.v[i] = LARGEST;
        return;
    }
    if (warm) {
        for (uint i = lane; i < a.levels; i += gl_WorkGroupSize.x) center[i] = F32(a.centroids).v[i] / mean;
    } else {
        start(restart, lane);
    }
    barrier();
    lloyd(lane);
    float error = squared_error(lane);
    if (lane == 0) candidate.v[0] = error;
    for (uint i = lane; i < a.levels; i += gl_WorkGroupSize.x) candidate.v[1 + i] = center[i] * mean;
}

#include "runtime/ops/fusion.h"

#include "runtime/ops/add.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/swiglu.h"

namespace vkqat {

Tensor unfused(Graph& g, Tensor x, const LinearFusion& fusion, const std::string& label,
               const std::function<Tensor(Tensor x)>& product) {
    if (fusion.norm) x = rms_norm(g, x, fusion.norm, fusion.eps);
    Tensor y = product(x);
    if (fusion.swiglu) y = swiglu(g, y);
    return fusion.residual ? add(g, fusion.residual, y, label + ".residual") : y;
}

}  // namespace vkqat

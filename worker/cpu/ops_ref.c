/* ops_ref.c - the operations as plain loops in double, as the papers write them. Tests compare with
 * these. */
#include "worker/cpu/ops.h"

#include <math.h>

void rms_norm_ref(float *y, const float *x, const float *w, int n, float eps)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    const double r = 1 / sqrt(sum / n + eps);
    for (int i = 0; i < n; i++)
        y[i] = (float)(x[i] * r * w[i]);
}

void layer_norm_ref(float *y, const float *x, const float *w, const float *b, int n, float eps)
{
    double sum = 0, sq = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    const double mean = sum / n;
    for (int i = 0; i < n; i++)
        sq += (x[i] - mean) * (x[i] - mean);
    const double r = 1 / sqrt(sq / n + eps);
    for (int i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * r * w[i] + (b ? b[i] : 0));
}

void rotate_ref(float *x, const double *inv_freq, int pos, float mscale, int n_rot,
                enum rope_kind kind)
{
    for (int i = 0; i < n_rot / 2; i++) {
        const int p = kind == ROPE_NEOX ? i : 2 * i,
                  q = kind == ROPE_NEOX ? i + n_rot / 2 : 2 * i + 1;
        const double c = cos(pos * inv_freq[i]) * mscale, s = sin(pos * inv_freq[i]) * mscale,
                     a = x[p], b = x[q];
        x[p] = (float)(a * c - b * s);
        x[q] = (float)(a * s + b * c);
    }
}

float activate_ref(float x, enum act_kind kind)
{
    const double v = x;
    if (kind == ACT_SILU)
        return (float)(v / (1 + exp(-v)));
    if (kind == ACT_GELU)
        return (float)(0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))));
    return (float)(v > 0 ? v * v : 0);
}

void attend_ref(float *out, const float *q, const float *k, const float *v, int head_k, int head_v,
                int lo, int hi, float scale, float softcap, const float *sink)
{
    double top = sink ? *sink : -INFINITY, sum = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int j = lo; j < hi; j++) {
            double s = 0;
            for (int d = 0; d < head_k; d++)
                s += (double)q[d] * k[(long)j * head_k + d];
            s *= scale;
            if (softcap != 0)
                s = softcap * tanh(s / softcap);
            if (pass == 0)
                top = s > top ? s : top;
            else if (pass == 1)
                sum += exp(s - top);
            else
                for (int d = 0; d < head_v; d++)
                    out[d] = (float)((j == lo ? 0 : out[d]) +
                                     exp(s - top) / (sum + (sink ? exp(*sink - top) : 0)) *
                                         v[(long)j * head_v + d]);
        }
}

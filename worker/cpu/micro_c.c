/* micro_c.c - the portable kernels: the arithmetic of kernels.h written plainly. */
#include "worker/cpu/kernels.h"

#include <math.h>
#include <string.h>

static void quantize_c(const float *x, int n_groups, int8_t *q, float *d, int16_t *sum16, int width)
{
    for (int g = 0; g < n_groups; g++, x += GROUP, q += GROUP * width, d += width, sum16 += 2) {
        /* The order of magnitudes is the order of their bits, NaN above infinity: no NaN slips
         * through. */
        uint32_t top = 0;
        for (int k = 0; k < GROUP; k++) {
            uint32_t bits;
            memcpy(&bits, x + k, 4);
            bits &= 0x7fffffff;
            top = bits > top ? bits : top;
        }
        float amax;
        memcpy(&amax, &top, 4);
        if (top >= 0x7f800000 || amax < QUANT_TINY) {
            *d = top >= 0x7f800000 ? NAN : 0.0f;
            memset(q, 0, GROUP);
            sum16[0] = sum16[1] = 0;
            continue;
        }
        float inverse = 127.0f / amax;
        int sum[2] = {0, 0};
        for (int k = 0; k < GROUP; k++) {
            q[k] = (int8_t)lrintf(x[k] * inverse); /* to nearest even, the default mode */
            sum[k / 16] += q[k];
        }
        *d = amax / 127.0f;
        sum16[0] = (int16_t)sum[0];
        sum16[1] = (int16_t)sum[1];
    }
}

/* Dots of `n` columns of all 16 rows with one token's q. */
static void dot_rows(int32_t *a, const uint8_t *u, const int8_t *q, int n, int32_t start)
{
    for (int r = 0; r < PANEL_ROWS; r++)
        a[r] = start;
    for (int k = 0; k < n; k += 4, u += 4 * PANEL_ROWS)
        for (int r = 0; r < PANEL_ROWS; r++)
            a[r] += u[4 * r] * q[k] + u[4 * r + 1] * q[k + 1] + u[4 * r + 2] * q[k + 2] +
                    u[4 * r + 3] * q[k + 3];
}

static void micro_int_c(const struct panel *p, const struct pack *how, const struct tile *x,
                        int n_groups, float *const *y, int n_rows, int first)
{
    int parts = GROUP / how->group, w = x->width;
    for (int t = 0; t < w; t++) {
        float acc[PANEL_ROWS] = {0};
        if (!first)
            memcpy(acc, y[t], sizeof(float) * (size_t)n_rows);
        for (int g = 0; g < n_groups; g++) {
            const int8_t *q = x->q + ((size_t)g * w + t) * GROUP;
            float part[PANEL_ROWS] = {0};
            for (int h = 0; h < parts; h++) {
                size_t i = (size_t)g * parts + h;
                const float *s = p->s + i * PANEL_ROWS;
                int32_t a[PANEL_ROWS];
                dot_rows(a, p->u + i * how->group * PANEL_ROWS, q + h * how->group, how->group,
                         how->has_min ? 0 : x->corr[i * w + t]);
                for (int r = 0; r < PANEL_ROWS; r++)
                    part[r] = h == 0 ? (float)a[r] * s[r] : fmaf((float)a[r], s[r], part[r]);
            }
            for (int h = 0; how->has_min && h < parts; h++) {
                size_t i = (size_t)g * parts + h;
                const float *m = p->m + i * PANEL_ROWS;
                for (int r = 0; r < PANEL_ROWS; r++)
                    part[r] = fmaf(m[r], x->sum[i * w + t], part[r]);
            }
            for (int r = 0; r < PANEL_ROWS; r++)
                acc[r] = fmaf(part[r], x->d[(size_t)g * w + t], acc[r]);
        }
        memcpy(y[t], acc, sizeof(float) * (size_t)n_rows);
    }
}

static void micro_float_c(const struct panel *p, const struct tile *x, int kc, float *const *y,
                          int n_rows, int first)
{
    int w = x->width;
    for (int t = 0; t < w; t++) {
        float sum[PANEL_ROWS] = {0};
        for (int j = 0; j < FLOAT_CHAINS; j++) {
            float c[PANEL_ROWS] = {0};
            for (int k = j; k < kc; k += FLOAT_CHAINS)
                for (int r = 0; r < PANEL_ROWS; r++)
                    c[r] = fmaf(p->w[(size_t)k * PANEL_ROWS + r], x->x[(size_t)k * w + t], c[r]);
            for (int r = 0; r < PANEL_ROWS; r++)
                sum[r] += c[r];
        }
        for (int r = 0; r < n_rows; r++)
            y[t][r] = first ? sum[r] : y[t][r] + sum[r];
    }
}

const struct kernels kernels_c = {
    .quantize = quantize_c,
    .micro_int = micro_int_c,
    .micro_float = micro_float_c,
};

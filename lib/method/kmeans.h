/* kmeans.h - centres for points whose every coordinate has a weight of its own:
 * Lloyd's algorithm makes
 *
 *   sum over points i and coordinates j of a_ij (x_ij - c_k(i)j)^2
 *
 * small, k(i) the nearest centre ("Least squares quantization in PCM", 1982), from
 * centres drawn as k-means++ draws them: Arthur and Vassilvitskii, "k-means++: the
 * advantages of careful seeding", 2007.
 *
 * Less sum_j a_j x_j^2, which is the same for every centre, a distance is the
 * product of a, a x with c^2, -2 c: what the kernels multiply. */
#ifndef TC_METHOD_KMEANS_H
#define TC_METHOD_KMEANS_H

#include "base/mem.h"
#include "base/thread.h"

#define TC_CENTRES_MAX 256

/* Points in panels of tc_kernels()->nr, each [2 dim][nr]: a_j, then a_j x_j.  The
 * places that a last panel has left over are 0, as is a coordinate that does not
 * count.  {.dim} is empty and valid. */
struct tc_points {
	size_t dim, n;
	struct tc_buf panels;
};

size_t tc_panel_floats(size_t dim);
/* Where point i's numbers begin; they are nr floats apart. */
float *tc_point_at(float *panels, size_t dim, size_t i);
/* n more points, all 0. */
int tc_points_add(struct tc_points *p, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_points_free(struct tc_points *p);

/* What a panel is multiplied by: terms[n][2 dim] of center[n][dim]. */
void tc_kmeans_terms(const float *center, size_t n, size_t dim, float *terms);
/* Of a panel's points the nearest of n <= TC_CENTRES_MAX centres (the first of
 * equals), code[nr], and its distance less sum_j a_j x_j^2, least[nr].
 * scores: room for [n][nr]. */
void tc_kmeans_nearest(const float *terms, size_t n, size_t dim, const float *panel, float *scores, uint8_t *code, float *least);
/* Takes its centre from every x of a panel. */
void tc_kmeans_subtract(const float *center, size_t dim, const uint8_t *code, float *panel);

/* center[n][dim], n <= TC_CENTRES_MAX; the same at any number of threads.  Where
 * there are fewer different points than centres, some centres are alike. */
int tc_kmeans_run(const struct tc_points *p, size_t n, float *center, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

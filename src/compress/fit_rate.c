// SPDX-License-Identifier: Apache-2.0
// What a fit's result takes in a file, and the price that makes it take what it may: of assignments, and of the steps in which
// codewords are stored.

#include <math.h>

#include "compress/fit_state.h"
#include "compress/round.h"

// Bits of a normal variable of this deviation in steps of 1, by the entropy of the continuous one and no less than is right for few steps.
static double bits_of_integer(double deviation)
{
    return 0.5 * log2(2 * 3.14159265358979 * 2.71828182845905 * (deviation * deviation + 1.0 / 12));
}

typedef struct book_use {
    int counts[QCNN_MAX_CODEWORDS];
    int n_used;
    double bits; // of its assignments
} book_use;

static void count_use(const fit_state *s, int set, int m, book_use *use)
{
    *use = (book_use){ 0 };
    const int n_groups = s->form->groups / s->form->n_sets;
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++)
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces)
            for (int o = 0; o < s->n_outputs; o++)
                use->counts[s->assigned[g][(size_t)b * (size_t)s->n_outputs + (size_t)o]]++;
    const double total = (double)n_groups * s->form->n_taps * s->n_outputs;
    for (int k = 0; k < s->form->n_codewords; k++)
        if (use->counts[k] > 0) {
            use->n_used++;
            use->bits += use->counts[k] * log2(total / use->counts[k]);
        }
}

// Mean square and largest magnitude of the numbers of the used codewords.
static void measure_words(const fit_state *s, int set, int m, const book_use *use, double *square, double *largest)
{
    const int width = s->blocks[m].width;
    const float *word = fit_codebook(s, set, m);
    *square = *largest = 0;
    for (int k = 0; k < s->form->n_codewords; k++, word += s->form->subspace)
        for (int i = 0; i < width && use->counts[k] > 0; i++) {
            *square += (double)word[i] * (double)word[i] / ((double)use->n_used * width);
            *largest = fmax(*largest, fabs((double)word[i]));
        }
}

// What an error of 1 in every number of every codeword adds to the objective.
static double weight_of_errors(const fit_state *s, int set, int m)
{
    const int n_groups = s->form->groups / s->form->n_sets;
    double sum = 0;
    for (int g = set * n_groups; g < (set + 1) * n_groups; g++) {
        double importance = 0;
        for (int o = 0; o < s->n_outputs; o++)
            importance += (double)s->importance[(size_t)g * s->padded + (size_t)o];
        for (int b = m; b < s->n_blocks; b += s->form->n_subspaces)
            for (int i = 0; i < s->blocks[b].width; i++) {
                const size_t row = (size_t)(s->blocks[b].row + i);
                sum += importance * (double)s->problem->gram[g][row * (size_t)s->n + row];
            }
    }
    return sum;
}

int qcnn_fit_largest_integer(const fit_state *s, int set, int m)
{
    static const int choices[] = { 127, 63, 31, 15, 7, 3 };
    book_use use;
    double square, largest, least = INFINITY;
    int best = s->options->largest > 0 ? s->options->largest : QCNN_MAX_INTEGER;
    if (!(s->options->price > 0) || s->options->largest > 0)
        return best;
    count_use(s, set, m, &use);
    measure_words(s, set, m, &use, &square, &largest);
    const double weight = weight_of_errors(s, set, m), n = (double)use.n_used * s->blocks[m].width;
    for (size_t i = 0; i < sizeof choices / sizeof *choices && largest > 0; i++) {
        const double step = largest / choices[i];
        const double cost = weight * step * step / 12 + (double)s->current_price * n * bits_of_integer(sqrt(square) / step);
        if (cost < least) {
            least = cost;
            best = choices[i];
        }
    }
    return best;
}

enum { N_INTEGERS = 2 * QCNN_MAX_INTEGER + 1 };

// The integers that the used codewords of a codebook would be rounded to, counted.
static void count_integers(const fit_state *s, int set, int m, const book_use *use, double *counts)
{
    const int width = s->blocks[m].width;
    const float *word = fit_codebook(s, set, m);
    double square, largest, step;
    measure_words(s, set, m, use, &square, &largest);
    if (s->frozen) // rounded already
        step = (double)s->scales[set * s->form->n_subspaces + m];
    else
        step = largest / qcnn_fit_largest_integer(s, set, m);
    for (int k = 0; k < s->form->n_codewords; k++, word += s->form->subspace)
        for (int i = 0; i < width && use->counts[k] > 0 && step > 0; i++)
            counts[(int)lrint((double)word[i] / step) + QCNN_MAX_INTEGER]++;
}

static double entropy_of(const double *counts, int n)
{
    double total = 0, bits = 0;
    for (int i = 0; i < n; i++)
        total += counts[i];
    for (int i = 0; i < n; i++)
        bits += counts[i] > 0 ? counts[i] * log2(total / counts[i]) : 0;
    return bits;
}

// Bits of everything as it is now.
static double count_bits(const fit_state *s)
{
    double bits = 0, integers[N_INTEGERS] = { 0 };
    const qcnn_number_type type = s->form->codeword_type;
    for (int set = 0; set < s->form->n_sets; set++)
        for (int m = 0; m < s->form->n_subspaces; m++) {
            book_use use;
            count_use(s, set, m, &use);
            bits += use.bits;
            if (type == QCNN_INT8)
                count_integers(s, set, m, &use, integers);
            bits += type == QCNN_INT8 ? 32 : use.n_used * s->blocks[m].width * (type == QCNN_FLOAT16 ? 16.0 : 32.0);
        }
    return bits + entropy_of(integers, N_INTEGERS);
}

// What power of the bits' excess the price should change by: the inverse of how bits followed its last change, where there was one. At
// first, a price changes bits by less than its square root, and more bits come slowly: codewords that had become rare stay rare for a
// while.
static double steering_power(const fit_state *s, double price, double bits, double excess)
{
    static const double least = 1, usual = 1.5, steepest = 4, seen = 0.05; // `seen`: of a change of the price
    if (s->n_steered == 0 || fabs(price - s->steered_price) < seen)
        return excess > 0 ? usual : 2 * usual;
    const double followed = (s->steered_bits - bits) / (price - s->steered_price);
    return followed > 1 / least ? least : followed < 1 / steepest ? steepest : 1 / followed;
}

bool qcnn_fit_steer(fit_state *s)
{
    static const double most = 3, near_enough = 0.01; // times the price, of the bits
    if (!(s->options->price > 0) || !(s->options->target_bits > 0))
        return false;
    const double price = log((double)s->current_price), bits = log(count_bits(s)), excess = bits - log(s->options->target_bits);
    const double change = steering_power(s, price, bits, excess) * excess, factor = exp(fmin(fmax(change, -log(most)), log(most)));
    s->steered_price = price;
    s->steered_bits = bits;
    s->n_steered++;
    s->current_price *= (float)factor;
    for (size_t i = 0; i < (size_t)s->form->groups * s->padded; i++)
        s->price[i] *= (float)factor;
    return fabs(excess) > near_enough;
}

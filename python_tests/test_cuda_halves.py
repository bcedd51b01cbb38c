"""The operators' CUDA halves pass the tests of the CPU halves: in emulation, and on a GPU."""

# ruff: noqa: F401

from __future__ import annotations

import pytest
from test_beam_search import (
    test_batch_padding_and_strides_change_nothing,
    test_float32_is_searched_in_double,
    test_impossible_frame_leaves_no_hypothesis,
    test_infinity_times_zero_is_refused_and_rounding_is_not,
    test_keeps_what_the_textbook_search_keeps,
    test_no_frames_is_the_empty_labeling,
    test_no_utterances,
    test_prefix_that_leaves_the_beam_and_returns_is_found_once,
    test_ranked_by_exact_probability_then_labeling_order,
    test_tied_labelings_of_a_long_uniform_utterance_come_in_labeling_order,
    test_ties_come_in_labeling_order,
    test_unlimited_width_equals_enumeration,
    test_unused_slots_are_marked,
    test_what_is_no_log_probability_is_named,
    test_wider_beam_than_hypotheses_returns_the_best_of_the_beam,
    test_wrong_arguments_are_named,
)
from test_ctc import (
    test_batch_padding_strides_and_threads_change_nothing as test_alignments_of_batches,
)
from test_ctc import (
    test_cotangents_equal_torchs_gradient,
    test_excluded_classes_have_no_cotangent,
    test_float32_cotangents_are_the_rounded_float64_ones,
    test_float32_occupancy_is_the_rounded_float64_one,
    test_frames_sum_to_one_and_to_zero,
    test_log_softmax_may_stand_for_logits,
    test_near_certain_utterance_has_a_log_prob_just_below_zero,
    test_occupancy_equals_the_reference,
    test_results_are_cut_off_from_the_graph,
    test_unused_slots_are_zero,
    test_wrong_hypotheses_are_named,
)
from test_ctc import test_nan_and_infinity_name_the_utterance as test_nan_among_emissions
from test_ctc import test_no_frames_and_no_utterances as test_nothing_to_align
from test_hostile_cotangents import (
    test_a_frame_gram_that_is_not_finite_shows_in_the_norms,
    test_single_cotangents_are_those_of_autograd,
)
from test_hostile_numbers import (
    test_logits_may_be_shifted_by_anything,
    test_nan_in_one_row_of_a_pullback_leaves_the_others,
)
from test_nbest_cotangents import (
    test_a_certain_labeling_needs_no_direction,
    test_a_span_that_saves_little_is_not_used,
    test_bad_values_are_refused,
    test_batches_order_and_padding_change_nothing,
    test_classes_in_no_labeling_count,
    test_compression_is_what_the_slow_twin_makes,
    test_equal_eigenvalues_do_not_make_rounding_decide,
    test_normals_are_a_function_of_key_and_labeling,
    test_rows_span_all_cotangents_and_are_the_fewest_that_do,
    test_without_compression_it_is_search_and_cotangents,
)
from test_nbest_cotangents import test_no_frames_and_no_utterances as test_nothing_to_pull_back
from test_nbest_cotangents import test_wrong_arguments_are_named as test_wrong_nbest_arguments
from test_recurrent_backward import (
    test_equals_autograd_through_torchs_layers,
    test_equals_the_plain_loop,
    test_vmap_of_one_of_two_cotangents,
    test_vmap_over_the_forward_pass_is_refused,
    test_zero_coefficients_stop_everything_on_padding,
)
from test_recurrent_backward import test_strides_change_nothing as test_backward_strides
from test_recurrent_backward import test_wrong_arguments_are_named as test_wrong_backward_arguments
from test_recurrent_forward import (
    test_a_clip_that_leaves_nothing_is_refused,
    test_half_precision_is_refused,
    test_no_bias_is_a_bias_of_zero,
    test_no_frames_and_no_utterances,
    test_padding_is_zero_and_never_read,
    test_precise_states_are_those_of_float64_rounded_once,
    test_slopes_at_the_corners_of_a_relu,
    test_strides_change_nothing,
    test_what_is_not_a_number_stays_so,
)
from test_recurrent_forward import test_equals_the_plain_loop as test_forward_equals_the_plain_loop
from test_recurrent_forward import test_equals_torchs_layers as test_forward_equals_torchs_layers
from test_recurrent_forward import test_wrong_arguments_are_named as test_wrong_forward_arguments
from test_row_norms import (
    test_equals_the_sum_of_squares,
    test_nothing_has_norm_zero,
    test_squares_that_float32_cannot_hold_count,
    test_what_is_not_finite_stays_so,
)
from test_row_norms import test_wrong_arguments_are_named as test_wrong_rows_are_named

pytestmark = pytest.mark.usefixtures("engine")

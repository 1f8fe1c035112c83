"""A bidirectional, stacked or packed call as calls of one direction: torch's own is the oracle."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_utils.diagnosis.layer_calls import CallRecorder
from course_utils.diagnosis.one_direction import one_direction

LENGTHS = torch.tensor([5, 9, 2, 9])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.RNN, {"nonlinearity": "relu"}),
        (nn.GRU, {"bias": False}),
        (nn.LSTM, {}),
        (nn.LSTM, {"proj_size": 3}),
    ],
)
@pytest.mark.parametrize(("packed", "bidirectional"), [(False, True), (True, False), (True, True)])
def test_each_direction_gives_what_the_module_gave_and_gets_its_gradient(
    kind, options, layers, batch_first, packed, bidirectional
):
    torch.manual_seed(0)
    rnn = kind(4, 6, layers, batch_first=batch_first, bidirectional=bidirectional, **options)
    x = torch.randn(4, 9, 4) if batch_first else torch.randn(9, 4, 4)
    given = x
    if packed:
        given = pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
    recorder = CallRecorder(rnn)
    recorder.armed = True
    output, _ = rnn(given)
    whole = pad_packed_sequence(output, batch_first)[0] if packed else output
    weights = torch.randn(whole.shape)
    (whole * weights).sum().backward()
    recorder.close()
    rows = LENGTHS == 9 if packed else slice(None)
    whole, weights = (v if batch_first else v.transpose(0, 1) for v in (whole, weights))
    calls = one_direction(recorder.calls[0])
    assert len(calls) == 1 + bidirectional
    width = whole.shape[-1] // len(calls)
    for i, call in enumerate(calls):
        columns = slice(i * width, (i + 1) * width)
        back = (lambda v: v.flip(1)) if i else (lambda v: v)
        torch.testing.assert_close(back(call.module(call.input)[0]), whole[rows][..., columns])
        torch.testing.assert_close(back(call.output), whole[rows][..., columns])
        torch.testing.assert_close(back(call.cotangents["[0]"]), weights[rows][..., columns])


def test_a_plain_call_comes_back_as_it_is():
    rnn = nn.GRU(2, 3)
    recorder = CallRecorder(rnn)
    rnn(torch.zeros(4, 1, 2))
    recorder.close()
    assert one_direction(recorder.calls[0]) == recorder.calls

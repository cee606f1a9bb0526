"""The exact prior on a GPU: the integers of `nic.prior`, for many grids of latents in lockstep.

One file a kernel, each with its reference first, then the kernel, then its launcher:

    lockstep.py        which positions of which grids are decoded together
    wavefront.py       one step of the prior: means and scale levels out, decoded latents in
    range_decoder.py   one step's residuals from many range-coded lanes
    decode_loop.py     the serial loop of decoding around them, recorded as a CUDA graph
    device_prior.py    the prior as the codec uses it
    equality.py        whether CPU and GPU give and read the same files
    bench.py           times, and equality (python -m kernels.bench)

Needs an NVIDIA GPU and the extra `gpu` (Triton); without Triton the references run in its place.
"""

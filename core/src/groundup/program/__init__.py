"""Programs: whole steps traced, improved, planned and replayed (see `groundup.compile`).

`trace` records a function's ops as a `Program`; `passes` improve it; `lowering` finds its kernels;
`plan` gives every value its place in memory; `executable` binds the launches and replays them;
`compile` joins these and keeps the results by signature.
"""

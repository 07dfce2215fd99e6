"""Small trainings on pictures of the real size: half a million parameters, few steps."""

HANDS, TEST_HANDS = 12, 4

STAGE1 = """
model:
  encoder: tu-test_resnet
  decoder_channels: [16, 16, 8, 8, 8]
dataset: {image_size: 64}
run:
  {epochs: 3, global_batch_size: 4, micro_batch_size: null, validate_every: 1, precision: fp32}
"""


def small_chain(batch_size: int) -> str:
    """Return a chain's config; one engine does for all that asks for one."""
    return f"""
stage1:{STAGE1.replace(chr(10), chr(10) + "  ")}
stage2:
  dataset: {{image_size: 128}}
  run:
    epochs: 2
    global_batch_size: 4
    micro_batch_size: null
    validate_every: 1
    precision: fp32
infer: {{batch_size: {batch_size}}}
efficiency:
  batch_size: {batch_size}
  warmup: 1
  iterations: 3
report: {{pictures: 2}}
"""


CHAIN = small_chain(batch_size=4)

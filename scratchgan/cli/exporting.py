"""`scratchgan export`: what makes samples, for other programs."""

from scratchgan.cli.options import path
from scratchgan.cli.sampling import check_target, run_of
from scratchgan.errors import UserError

FORMATS = ("onnx",)
EXAMPLES = """\
examples:
  scratchgan export runs/mlp                                    runs/mlp/generator.onnx
  scratchgan export runs/mlp --format onnx --out digits.onnx
"""


def add(commands):
    parser = commands.add_parser("export", help="write the generator for other programs: scratchgan export runs/mlp",
                                 description="Write the network of a run that makes samples, such as its generator, as "
                                             "an ONNX model, from z (N, z_dim), and labels (N,) where it takes "
                                             "them, to images (N, C, H, W) in the value range of the system, "
                                             "[-1, 1] of a GAN. Needs: pip install \"scratchgan[onnx]\".",
                                 epilog=EXAMPLES)
    parser.set_defaults(run=export)
    parser.add_argument("folder", metavar="RUN", type=path, help="the folder of a run, or one of its checkpoints")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="of the file (default: onnx)")
    parser.add_argument("--out", metavar="FILE", type=path,
                        help="NAME.onnx, whose place it takes (default: RUN/generator.onnx, or as the "
                             "network is called)")


def export(options):
    from scratchgan import training
    from scratchgan.export import require_onnx, save_onnx
    run = training.RunFolder.open(run_of(options.folder), lock=False).path
    out = options.out or run / "generator.onnx"
    if out.suffix.lower() != ".onnx" or out.is_dir():
        raise UserError(f"--out must be a file that ends in .onnx, not {str(out)!r}")
    check_target(out, ".onnx")
    require_onnx()
    system = training.load(options.folder)
    if not options.out and system.sampler_name:
        out = run / f"{system.sampler_name}.onnx"
    save_onnx(system, out)
    takes = f"z (N, {system.latent.z_dim})" + " and labels (N,)" * bool(system.classes)
    shape = ", ".join(map(str, system.sample_shape))
    print(f"wrote the {system.sampler_name or 'sampler'} of step {system.steps:,}, {takes} to images (N, {shape}), "
          f"to {out}")

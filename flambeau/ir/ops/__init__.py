"""Every op, by subject. `ops.add` is an instance; `ops.Sum(dims=(1,))` is a class with attributes.

Importing this package fills the registry `flambeau.ir.op.OPS`.
"""
from flambeau.ir.ops.attention import Attention, AttentionBackward
from flambeau.ir.ops.average_pooling import AvgPool2d, AvgPool2dGrad
from flambeau.ir.ops.bessel_functions import *  # noqa: F403
from flambeau.ir.ops.contraction import byte_matmul, matmul
from flambeau.ir.ops.control import Cond, WhileLoop
from flambeau.ir.ops.conversions import Cast, Place, where
from flambeau.ir.ops.convolution import (
    Conv2d,
    Conv2dInputGrad,
    Conv2dWeightGrad,
    Conv3d,
    Conv3dInputGrad,
    Conv3dWeightGrad,
)
from flambeau.ir.ops.elementwise import *  # noqa: F403
from flambeau.ir.ops.factorizations import Geqrf, Lu, Qr, RowSwaps
from flambeau.ir.ops.families import Bilinear, Elementwise, Linear, View
from flambeau.ir.ops.gamma_functions import *  # noqa: F403
from flambeau.ir.ops.guarded import *  # noqa: F403
from flambeau.ir.ops.indexing import LastAlong, ScatterAdd, ScatterAlongAdd, Take, TakeAlong
from flambeau.ir.ops.linear_algebra import Cholesky, CholeskyEx, Solve, SolveTriangular
from flambeau.ir.ops.matrix_functions import Det, Inverse, MatrixExp, Pinv, Slogdet, SolveEx
from flambeau.ir.ops.max_pooling import MaxPool2d, MaxPool2dGrad, MaxPool2dTake
from flambeau.ir.ops.modified_bessel_functions import *  # noqa: F403
from flambeau.ir.ops.normal_functions import *  # noqa: F403
from flambeau.ir.ops.normalization import LogSoftmax, Normalize, SafeSoftmax, Softmax
from flambeau.ir.ops.printing import Callback, Print, callback
from flambeau.ir.ops.reductions import All, AMax, AMin, Any, ArgMax, ArgMin, Prod, Reduction, Sum
from flambeau.ir.ops.resampling import Resample, weighted_sums
from flambeau.ir.ops.scans import Cumsum
from flambeau.ir.ops.slices import Concat, Pad, Slice, Split, UpdateSlice
from flambeau.ir.ops.sorting import Median, Sort
from flambeau.ir.ops.sources import Constant, Count, Iota, Literal, RandomBits, literal
from flambeau.ir.ops.special_functions import *  # noqa: F403
from flambeau.ir.ops.spectra import Eig, Eigh, Eigvalsh, Svd, Svdvals
from flambeau.ir.ops.structural import Custom, Fusion
from flambeau.ir.ops.transforms import Fft, Irfft, Rfft
from flambeau.ir.ops.unfolding import Windows, WindowsSum
from flambeau.ir.ops.views import Broadcast, Diagonal, Flip, Kept, Permute, Reshape

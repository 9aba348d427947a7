"""The functions of all families, under one roof. Importing it registers every op of the core.

Each family file lists its functions in `__all__`, so an op that joins a family touches that file
alone.
"""

from groundup.ops.activation import *
from groundup.ops.arithmetic import *
from groundup.ops.assembly import *
from groundup.ops.attention import *
from groundup.ops.attention_cache import *
from groundup.ops.casting import *
from groundup.ops.channel_normalization import *
from groundup.ops.comparison import *
from groundup.ops.contraction import *
from groundup.ops.convolution import *
from groundup.ops.convolution_1d import *
from groundup.ops.creation import *
from groundup.ops.einsum import *
from groundup.ops.elementwise import *
from groundup.ops.extrema import *
from groundup.ops.fusion import *
from groundup.ops.indexing import *
from groundup.ops.loss import *
from groundup.ops.masking import *
from groundup.ops.movement import *
from groundup.ops.normalization import *
from groundup.ops.optimizer_ops import *
from groundup.ops.pooling import *
from groundup.ops.random_ops import *
from groundup.ops.reduction import *
from groundup.ops.rounding import *
from groundup.ops.scan import *
from groundup.ops.selection import *
from groundup.ops.shaping import *
from groundup.ops.softmax import *
from groundup.ops.sorting import *
from groundup.ops.unstacking import *

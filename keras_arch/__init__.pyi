"""The public names of the package, for editors and type checkers. Written by make generate."""
# ruff: noqa: I001
# fmt: off

__version__: str

from .architectures.resnet.builders import ResNet18 as ResNet18
from .architectures.resnet.builders import ResNet34 as ResNet34
from .architectures.resnet.builders import ResNet50 as ResNet50
from .architectures.resnet.builders import ResNet101 as ResNet101
from .architectures.resnet.builders import ResNet152 as ResNet152
from .architectures.resnet.builders import ResNet50V2 as ResNet50V2
from .architectures.resnet.builders import ResNet101V2 as ResNet101V2
from .architectures.resnet.builders import ResNet152V2 as ResNet152V2
from .architectures.resnet.builders import Plain18 as Plain18
from .architectures.resnet.builders import Plain34 as Plain34
from .architectures.resnet.builders import ResNet8 as ResNet8
from .architectures.resnet.builders import ResNet20 as ResNet20
from .architectures.resnet.builders import ResNet32 as ResNet32
from .architectures.resnet.builders import ResNet44 as ResNet44
from .architectures.resnet.builders import ResNet56 as ResNet56
from .architectures.resnet.builders import ResNet110 as ResNet110
from .architectures.resnet.builders import ResNet20V2 as ResNet20V2
from .architectures.resnet.builders import ResNet56V2 as ResNet56V2
from .architectures.resnet.builders import ResNet110V2 as ResNet110V2
from .architectures.resnet.builders import ResNet164V2 as ResNet164V2
from .architectures.resnet.builders import Plain20 as Plain20
from .architectures.resnet.builders import Plain32 as Plain32
from .architectures.resnet.builders import Plain44 as Plain44
from .architectures.resnet.builders import Plain56 as Plain56
from .architectures.googlenet import GoogLeNet as GoogLeNet
from .architectures.network_in_network import NetworkInNetwork as NetworkInNetwork
from .architectures.registry import available as available
from .architectures.registry import build as build
from .architectures.googlenet import Inception as Inception
from .architectures.googlenet import inception_module as inception_module
from .architectures.googlenet import naive_inception_module as naive_inception_module
from .architectures.network_in_network import mlpconv as mlpconv
from .architectures.resnet.blocks import Parts as Parts
from .architectures.resnet.blocks import basic_block as basic_block
from .architectures.resnet.blocks import bottleneck_block as bottleneck_block
from .architectures.resnet.blocks import plain_block as plain_block
from .architectures.resnet.blocks import preactivation_basic_block as preactivation_basic_block
from .architectures.resnet.blocks import preactivation_bottleneck_block as preactivation_bottleneck_block
from .artifacts.open import open_artifact as open_artifact
from .data.dataset import Dataset as Dataset
from .data.load import load_dataset as load_dataset
from .errors import DataWarning as DataWarning
from .errors import InputError as InputError
from .errors import VerificationError as VerificationError
from .evaluation.cost import cost as cost
from .evaluation.evaluate import evaluate as evaluate
from .export.classifier import export_and_verify as export_and_verify
from .export.model import export_model as export_model
from .export.verification.result import FileVerification as FileVerification
from .export.verification.spec import FileSpec as FileSpec
from .export.verification.spec import TensorSpec as TensorSpec
from .export.verification.verify import Reference as Reference
from .export.verification.verify import verify as verify
from .formats import ExportSettings as ExportSettings
from .models import feature_maps as feature_maps
from .models import feature_strides as feature_strides
from .models import strip_auxiliary_heads as strip_auxiliary_heads
from .recipes import RECIPES as RECIPES
from .recipes import Recipe as Recipe
from .training.fit import fit as fit
from .weights.torchvision import load_torchvision_weights as load_torchvision_weights
from .weights.transfer import transfer_weights as transfer_weights

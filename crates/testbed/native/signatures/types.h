// The types of the tables: handles, and the structures whose members lines have, as `cuda.h`,
// `driver_types.h` and `vector_types.h` declare them. The compiler places the members.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef int CUdevice;
typedef unsigned int CUdeviceptr_v1;
typedef unsigned long long CUdeviceptr, CUmemGenericAllocationHandle;
typedef unsigned long long CUgraphConditionalHandle, cudaGraphConditionalHandle;
typedef uint32_t cuuint32_t;
typedef uint64_t cuuint64_t;

#define HANDLE(name) typedef struct name##_handle *name;
HANDLE(CUcontext) HANDLE(CUgreenCtx) HANDLE(CUdevResourceDesc) HANDLE(CUmodule) HANDLE(CUlibrary)
HANDLE(CUkernel) HANDLE(CUfunction) HANDLE(CUlinkState) HANDLE(CUmemoryPool) HANDLE(CUarray)
HANDLE(CUgraph) HANDLE(CUgraphExec) HANDLE(CUgraphNode) HANDLE(CUstream) HANDLE(CUevent)
HANDLE(cudaExecutionContext_t) HANDLE(cudaDevResourceDesc_t) HANDLE(cudaLibrary_t)
HANDLE(cudaKernel_t) HANDLE(cudaFunction_t) HANDLE(cudaMemPool_t) HANDLE(cudaArray_t)
HANDLE(cudaGraph_t) HANDLE(cudaGraphExec_t) HANDLE(cudaGraphNode_t) HANDLE(cudaStream_t)
HANDLE(cudaEvent_t)

#define ENUMERATION(name) typedef enum { name##_of_32_bits = 0x7fffffff } name;
ENUMERATION(CUlimit) ENUMERATION(CUjit_option) ENUMERATION(CUlibraryOption) ENUMERATION(CUmemorytype)
ENUMERATION(CUmemAllocationHandleType) ENUMERATION(CUstreamCaptureMode) ENUMERATION(CUmemLocationType)
ENUMERATION(cudaJitOption) ENUMERATION(cudaLibraryOption) ENUMERATION(cudaMemcpyKind)
ENUMERATION(cudaStreamCaptureMode) ENUMERATION(cudaMemLocationType)

typedef void (*CUhostFn)(void *);
typedef void (*cudaHostFn_t)(void *);
typedef void (*CUstreamCallback)(CUstream, int, void *);
typedef void (*cudaStreamCallback_t)(cudaStream_t, int, void *);

typedef struct { unsigned int x, y, z; } dim3, uint3;
typedef struct { char reserved[64]; } CUipcMemHandle, CUipcEventHandle;
typedef struct { char reserved[64]; } cudaIpcMemHandle_t, cudaIpcEventHandle_t;
typedef struct { CUmemLocationType type; int id; } CUmemLocation;
typedef struct { cudaMemLocationType type; int id; } cudaMemLocation;
typedef struct { unsigned int numDevices; size_t size; unsigned long long handleTypes, flags; } CUmulticastObjectProp;

typedef struct {
    size_t srcXInBytes, srcY;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    size_t srcPitch;
    size_t dstXInBytes, dstY;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    size_t dstPitch;
    size_t WidthInBytes, Height;
} CUDA_MEMCPY2D;

typedef struct {
    unsigned int srcXInBytes, srcY;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr_v1 srcDevice;
    CUarray srcArray;
    unsigned int srcPitch;
    unsigned int dstXInBytes, dstY;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr_v1 dstDevice;
    CUarray dstArray;
    unsigned int dstPitch;
    unsigned int WidthInBytes, Height;
} CUDA_MEMCPY2D_v1;

typedef struct {
    size_t srcXInBytes, srcY, srcZ, srcLOD;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    void *reserved0;
    size_t srcPitch, srcHeight;
    size_t dstXInBytes, dstY, dstZ, dstLOD;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    void *reserved1;
    size_t dstPitch, dstHeight;
    size_t WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D;

typedef struct {
    unsigned int srcXInBytes, srcY, srcZ, srcLOD;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr_v1 srcDevice;
    CUarray srcArray;
    void *reserved0;
    unsigned int srcPitch, srcHeight;
    unsigned int dstXInBytes, dstY, dstZ, dstLOD;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr_v1 dstDevice;
    CUarray dstArray;
    void *reserved1;
    unsigned int dstPitch, dstHeight;
    unsigned int WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D_v1;

typedef struct {
    size_t srcXInBytes, srcY, srcZ, srcLOD;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    CUcontext srcContext;
    size_t srcPitch, srcHeight;
    size_t dstXInBytes, dstY, dstZ, dstLOD;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    CUcontext dstContext;
    size_t dstPitch, dstHeight;
    size_t WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D_PEER;

typedef struct {
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    CUstream hStream;
    void *attrs;
    unsigned int numAttrs;
} CUlaunchConfig;

typedef struct {
    CUfunction function;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    CUstream hStream;
    void **kernelParams;
} CUDA_LAUNCH_PARAMS;

typedef struct {
    CUfunction func;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    void **kernelParams, **extra;
} CUDA_KERNEL_NODE_PARAMS_v1;

typedef struct {
    CUfunction func;
    unsigned int gridDimX, gridDimY, gridDimZ;
    unsigned int blockDimX, blockDimY, blockDimZ;
    unsigned int sharedMemBytes;
    void **kernelParams, **extra;
    CUkernel kern;
    CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS_v2;

typedef struct {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void *attrs;
    unsigned int numAttrs;
} cudaLaunchConfig_t;

typedef struct {
    void *func;
    dim3 gridDim, blockDim;
    void **args;
    size_t sharedMem;
    cudaStream_t stream;
} cudaLaunchParams;

typedef struct {
    void *func;
    dim3 gridDim, blockDim;
    unsigned int sharedMemBytes;
    void **kernelParams, **extra;
} cudaKernelNodeParams;

typedef struct { size_t x, y, z; } cudaPos;
typedef struct { size_t width, height, depth; } cudaExtent;
typedef struct { void *ptr; size_t pitch, xsize, ysize; } cudaPitchedPtr;

typedef struct {
    cudaArray_t srcArray;
    cudaPos srcPos;
    cudaPitchedPtr srcPtr;
    cudaArray_t dstArray;
    cudaPos dstPos;
    cudaPitchedPtr dstPtr;
    cudaExtent extent;
    cudaMemcpyKind kind;
} cudaMemcpy3DParms;

typedef struct {
    cudaArray_t srcArray;
    cudaPos srcPos;
    cudaPitchedPtr srcPtr;
    int srcDevice;
    cudaArray_t dstArray;
    cudaPos dstPos;
    cudaPitchedPtr dstPtr;
    int dstDevice;
    cudaExtent extent;
} cudaMemcpy3DPeerParms;

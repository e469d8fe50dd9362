// SPDX-License-Identifier: Apache-2.0
// Signs an APK (schemes v2 and v3) with the debug key and verifies the outcome. Stored entries stay where pack.py put them.
//   java -cp apksig.jar Sign.java UNSIGNED.apk SIGNED.apk KEYSTORE.p12
import com.android.apksig.ApkSigner;
import com.android.apksig.ApkVerifier;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.List;

public final class Sign {
    public static void main(String[] arguments) throws Exception {
        char[] password = "android".toCharArray();
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = new FileInputStream(arguments[2])) {
            keys.load(in, password);
        }
        ApkSigner.SignerConfig signer = new ApkSigner.SignerConfig.Builder("DEBUG", (PrivateKey) keys.getKey("debug", password),
                                                                           List.of((X509Certificate) keys.getCertificate("debug"))).build();
        new ApkSigner.Builder(List.of(signer)).setInputApk(new File(arguments[0])).setOutputApk(new File(arguments[1])).setMinSdkVersion(26)
            .setV1SigningEnabled(false).setV2SigningEnabled(true).setV3SigningEnabled(true).setAlignmentPreserved(true).build().sign();
        ApkVerifier.Result result = new ApkVerifier.Builder(new File(arguments[1])).build().verify();
        if (!result.isVerified()) {
            System.err.println(result.getErrors());
            System.exit(1);
        }
    }
}

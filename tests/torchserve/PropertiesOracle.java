// Prints what java.util.Properties reads from each file given: one line a file, everything in hexadecimal.

import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.TreeMap;

public final class PropertiesOracle {
    public static void main(String[] files) throws Exception {
        for (String file : files) {
            System.out.println(read(Path.of(file)));
        }
    }

    private static String read(Path path) throws Exception {
        Properties properties = new Properties();
        try (Reader reader = Files.newBufferedReader(path)) {
            properties.load(reader);
        } catch (IllegalArgumentException malformed) {
            return "malformed";
        }
        StringBuilder line = new StringBuilder("ok");
        for (var pair : new TreeMap<>(properties).entrySet()) {
            line.append(' ').append(hex(pair.getKey())).append('=').append(hex(pair.getValue()));
        }
        return line.toString();
    }

    private static String hex(Object text) {
        StringBuilder digits = new StringBuilder();
        for (byte octet : text.toString().getBytes(StandardCharsets.UTF_16BE)) {
            digits.append(String.format("%02x", octet));
        }
        return digits.toString();
    }
}
